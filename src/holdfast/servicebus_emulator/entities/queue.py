"""A queue with its dead letters. Decides what becomes of each message; tells nobody.

An entry is in `_entries` as long as it exists. While nobody holds it, its number waits in a heap, so that what comes
back stands where it stood; a number there whose entry is gone or taken is passed over. While somebody holds it, it
is in `_locked` by its token: locks last equally long, so that dict stays in the order in which they end.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from holdfast.servicebus_emulator.entities.content import Content
from holdfast.servicebus_emulator.entities.message_session import Entry, Holder, MessageSession, State
from holdfast.servicebus_emulator.entities.options import QueueOptions
from holdfast.servicebus_emulator.entities.settlements import (
    Abandon,
    Complete,
    DeadLetter,
    Defer,
    LockLost,
    MessageNotFound,
    NotAllowed,
    Release,
    SessionCannotBeLocked,
    SessionLockLost,
    Settlement,
)

EXPIRED = DeadLetter("TTLExpiredException", "The message expired and was dead lettered.")


class Queue:
    """A queue. All moments are Unix seconds, all tokens the bytes of UUIDs.

    One that is `undecided` has sessions if its first message has one, or if the first who receives wants one.
    """

    def __init__(self, name: str, options: QueueOptions, *, is_dead: bool = False, undecided: bool = False) -> None:
        self.name = name
        self.options = options
        self.is_dead = is_dead
        self._undecided = undecided
        self.dead = self if is_dead else Queue(name, QueueOptions(lock=options.lock), is_dead=True)
        self.sessions: dict[str, MessageSession] = {}
        self._last_sequence = 0
        self._entries: dict[int, Entry] = {}
        self._waiting: list[int] = []
        self._locked: dict[bytes, Entry] = {}
        self._scheduled: list[tuple[float, int]] = []
        self._expiring: list[tuple[float, int]] = []
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        # Sessions with messages that nobody holds, the longest waiting first; and held ones, the next to end first.
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._held: OrderedDict[str, MessageSession] = OrderedDict()

    def decide(self, *, sessions: bool) -> None:
        """Have sessions, or none, if that is open."""
        if self._undecided:
            self._undecided = False
            self.options = replace(self.options, sessions=sessions)

    # --- sending

    def enqueue(self, *contents: Content, now: float) -> list[int]:
        """Take messages in, all or none, at once or when they say; their numbers. Duplicates get one, and are dropped."""
        if self.is_dead:
            raise NotAllowed("Nobody can send to a dead-letter queue.")
        self.decide(sessions=any(content.session_id() is not None for content in contents))
        sessions = [self._session_id(content) for content in contents]
        ids = [self._message_id(content) for content in contents]
        return [self._enqueue(*each, now) for each in zip(contents, sessions, ids, strict=True)]

    def _enqueue(self, content: Content, session_id: str | None, message_id: bytes | None, now: float) -> int:
        session = None if session_id is None else self._session(session_id)
        self._last_sequence += 1
        number = self._last_sequence
        if message_id is not None and self._is_duplicate(message_id, now):
            return number
        if content.scheduled_at is not None and content.scheduled_at > now:
            entry = Entry(number, content, now, None, session, state=State.SCHEDULED, due=content.scheduled_at)
            self._entries[number] = entry
            heapq.heappush(self._scheduled, (entry.due, number))
            return number
        self._begin(Entry(number, content, now, None, session), now)
        return number

    def cancel_scheduled(self, sequences: Sequence[int]) -> None:
        """Forget scheduled messages; all of them, or none if one is missing."""
        found: list[Entry] = []
        for sequence in dict.fromkeys(sequences):
            entry = self._entries.get(sequence)
            if entry is None or entry.state is not State.SCHEDULED:
                raise MessageNotFound(sequence)
            found.append(entry)
        for entry in found:
            self._forget(entry)

    # --- receiving

    def take(self, now: float, token: bytes | None, session: MessageSession | None = None) -> Entry | None:
        """The next message, locked under `token`; or removed at once if that is None."""
        waiting = self._waiting if session is None else session.waiting
        while waiting:
            entry = self._entries.get(heapq.heappop(waiting))
            if entry is None or entry.token is not None or entry.state is not State.ACTIVE:
                continue
            if entry.expires_at is not None and entry.expires_at <= now:
                self._expire(entry, now)
                continue
            if token is None:
                self._forget(entry)
            else:
                self._lock(entry, token, now)
            return entry
        return None

    def take_deferred(
        self, sequences: Sequence[int], now: float, token: Callable[[], bytes] | None, session: MessageSession | None
    ) -> list[Entry]:
        """Deferred messages by number, locked with a new token each; or removed at once if `token` is None."""
        found: list[Entry] = []
        for sequence in dict.fromkeys(sequences):
            entry = self._entries.get(sequence)
            if entry is None or entry.state is not State.DEFERRED or entry.token or not _is_of(entry, session):
                raise MessageNotFound(sequence)
            found.append(entry)
        for entry in found:
            # The session may have been forgotten since.
            entry.session = session
            if token is None:
                self._forget(entry)
            else:
                self._lock(entry, token(), now)
        return found

    def peek(self, first: int, count: int, session: str | None = None) -> list[Entry]:
        """Up to `count` messages from number `first` on, whatever state they are in."""
        wanted = (
            number
            for number, entry in self._entries.items()
            if number >= first and (session is None or (entry.session and entry.session.id == session))
        )
        return [self._entries[number] for number in heapq.nsmallest(count, wanted)]

    def settle(self, token: bytes, settlement: Settlement, now: float) -> None:
        """Do what the receiver decided. Raises LockLost or SessionLockLost."""
        entry = self._holding(token, now)
        if isinstance(settlement, Complete):
            del self._locked[token]
            del self._entries[entry.sequence]
            if entry.session is not None:
                del entry.session.held[token]
            return
        if isinstance(settlement, DeadLetter) and self.is_dead:
            raise NotAllowed("A message in a dead-letter queue cannot be dead-lettered again.")
        self._unlock(entry)
        match settlement:
            case Abandon():
                self._fail(entry, now)
            case Release():
                self._give_back(entry, now)
            case Defer():
                # As with Service Bus, what is put aside was delivered, and counts.
                entry.state = State.DEFERRED
                self._fail(entry, now)
            case DeadLetter():
                self._bury(entry, settlement, now)
            case _:
                assert_never(settlement)

    def renew(self, token: bytes, now: float) -> float:
        """Begin the lock's time anew; when it ends. Raises LockLost."""
        entry = self._holding(token, now)
        if entry.session is not None:
            return entry.session.locked_until
        entry.locked_until = now + self.options.lock
        self._locked[token] = self._locked.pop(token)
        return entry.locked_until

    # --- sessions

    def accept_session(self, id: str | None, holder: Holder, now: float) -> MessageSession | None:
        """Lock a session for `holder`: this one, or the one that has waited longest. None if there is none to have."""
        if id is None:
            session = self._next_ready(now)
            if session is None:
                return None
        else:
            session = self._session(id)
            if session.holder is not None and session.locked_until > now:
                raise SessionCannotBeLocked(id)
        session.holder = holder
        self._ready.pop(session.id, None)
        self._hold(session, now)
        return session

    def held_session(self, id: str, holder: Holder, now: float) -> MessageSession:
        """The session, if `holder` still has it. Raises SessionLockLost."""
        session = self.sessions.get(id)
        if session is None or session.holder is not holder or session.locked_until <= now:
            raise SessionLockLost(id)
        return session

    def renew_session(self, session: MessageSession, now: float) -> float:
        """Begin the session lock's time anew; when it ends."""
        self._hold(session, now)
        for entry in session.held.values():
            entry.locked_until = session.locked_until
        return session.locked_until

    def release_session(self, session: MessageSession, holder: Holder, now: float) -> None:
        """Give the session back, and what was not settled in it; none of that counts as a delivery."""
        if session.holder is holder:
            for entry in list(session.held.values()):
                self._unlock(entry)
                self._give_back(entry, now)
            self._let_go(session)

    def session_ids(self, updated_after: float | None) -> list[str]:
        """Sessions with messages or a state; or those whose state was set after that moment."""
        if updated_after is not None:
            found = [
                s.id for s in self.sessions.values() if s.state_set_at is not None and s.state_set_at > updated_after
            ]
        else:
            found = [s.id for s in self.sessions.values() if s.waiting or s.held or s.state is not None]
        return sorted(found)

    # --- time

    def pass_time(self, now: float) -> list[Holder]:
        """Do all that is due: schedules, locks, lives that end. Returns who lost a session by that."""
        while self._scheduled and self._scheduled[0][0] <= now:
            self._appear(heapq.heappop(self._scheduled)[1], now)
        lost = self._end_sessions(now) if self.options.sessions else self._end_locks(now)
        while self._expiring and self._expiring[0][0] <= now:
            entry = self._entries.get(heapq.heappop(self._expiring)[1])
            if entry is not None and entry.token is None and entry.state is State.ACTIVE:
                self._expire(entry, now)
        return lost

    def next_due(self) -> float | None:
        """When there is something to do again."""
        due: list[float] = []
        if self._scheduled:
            due.append(self._scheduled[0][0])
        if self._expiring:
            due.append(self._expiring[0][0])
        if self.options.sessions:
            due += [session.locked_until for session in list(self._held.values())[:1]]
        elif self._locked:
            due.append(next(iter(self._locked.values())).locked_until)
        return min(due, default=None)

    def counts(self) -> dict[str, int]:
        """How many messages there are, by where they are. `active` are those that anybody may have now."""
        entries = self._entries.values()
        free = [entry for entry in entries if entry.token is None]
        return {
            "active": sum(entry.state is State.ACTIVE for entry in free),
            "locked": len(entries) - len(free),
            "deferred": sum(entry.state is State.DEFERRED for entry in free),
            "scheduled": sum(entry.state is State.SCHEDULED for entry in free),
            "dead": len(self.dead._entries) if not self.is_dead else 0,
        }

    def session_counts(self) -> dict[str, int]:
        """How many sessions are held, and how many that have messages are free."""
        free = sum(
            session.holder is None and any(self._is_free(sequence) for sequence in session.waiting)
            for session in self.sessions.values()
        )
        return {"free": free, "held": len(self._held)}

    # --- steps of the above

    def _message_id(self, content: Content) -> bytes | None:
        return None if self.options.duplicate_window is None else content.message_id()

    def _session_id(self, content: Content) -> str | None:
        if not self.options.sessions:
            return None
        id = content.session_id()
        if id is None:
            raise NotAllowed(
                "The SessionId was not set on a message, and it cannot be sent to the entity. Entities that have "
                "session support enabled can only receive messages that have the SessionId set to a valid value."
            )
        return id

    def _session(self, id: str) -> MessageSession:
        session = self.sessions.get(id)
        if session is None:
            session = self.sessions[id] = MessageSession(id)
        return session

    def _is_duplicate(self, id: bytes, now: float) -> bool:
        window = self.options.duplicate_window or 0.0
        while self._seen and next(iter(self._seen.values())) + window <= now:
            self._seen.popitem(last=False)
        if id in self._seen:
            return True
        self._seen[id] = now
        return False

    def _begin(self, entry: Entry, now: float) -> None:
        """Put a new message at the end; its life begins now."""
        lives = [life for life in (entry.content.ttl, self.options.ttl) if life is not None]
        self._entries[entry.sequence] = entry
        if lives and not self.is_dead:
            entry.expires_at = now + min(lives)
            if len(self._expiring) > 1000 + 2 * len(self._entries):
                # Most of these lives ended well, long before their time.
                self._expiring = [life for life in self._expiring if life[1] in self._entries]
                heapq.heapify(self._expiring)
            heapq.heappush(self._expiring, (entry.expires_at, entry.sequence))
        self._wait(entry)

    def _wait(self, entry: Entry) -> None:
        session = entry.session
        if session is None:
            heapq.heappush(self._waiting, entry.sequence)
            return
        heapq.heappush(session.waiting, entry.sequence)
        if session.holder is None:
            self._ready.setdefault(session.id)

    def _appear(self, sequence: int, now: float) -> None:
        """A scheduled message's moment: it is enqueued as if it came now, with a new number."""
        entry = self._entries.get(sequence)
        if entry is not None and entry.state is State.SCHEDULED:
            del self._entries[sequence]
            if entry.session is not None:
                # It may have been forgotten since.
                entry.session = self._session(entry.session.id)
            self._last_sequence += 1
            entry.sequence, entry.enqueued_at, entry.state = self._last_sequence, now, State.ACTIVE
            self._begin(entry, now)

    def _lock(self, entry: Entry, token: bytes, now: float) -> None:
        entry.token = token
        self._locked[token] = entry
        if entry.session is None:
            entry.locked_until = now + self.options.lock
        else:
            entry.locked_until = entry.session.locked_until
            entry.session.held[token] = entry

    def _unlock(self, entry: Entry) -> None:
        token, entry.token = entry.token, None
        if token is not None:
            del self._locked[token]
            if entry.session is not None:
                del entry.session.held[token]

    def _holding(self, token: bytes, now: float) -> Entry:
        entry = self._locked.get(token)
        if entry is None:
            raise SessionLockLost("") if self.options.sessions else LockLost()
        if entry.session is not None:
            if entry.session.locked_until <= now:
                raise SessionLockLost(entry.session.id)
        elif entry.locked_until <= now:
            raise LockLost
        return entry

    def _fail(self, entry: Entry, now: float) -> None:
        """Count a delivery that led to nothing."""
        entry.delivery_count += 1
        if not self.is_dead and entry.delivery_count >= self.options.max_delivery_count:
            said = f"Message could not be consumed after {entry.delivery_count} delivery attempts."
            self._bury(entry, DeadLetter("MaxDeliveryCountExceeded", said), now)
        else:
            self._give_back(entry, now)

    def _give_back(self, entry: Entry, now: float) -> None:
        # A deferred message that was held returns to where it was taken from, and never expires.
        if entry.state is State.ACTIVE:
            if entry.expires_at is not None and entry.expires_at <= now:
                self._expire(entry, now)
            else:
                self._wait(entry)

    def _expire(self, entry: Entry, now: float) -> None:
        if self.options.dead_letter_expired:
            self._bury(entry, EXPIRED, now)
        else:
            self._forget(entry)

    def _bury(self, entry: Entry, why: DeadLetter, now: float) -> None:
        self._forget(entry)
        added = {"DeadLetterReason": why.reason, "DeadLetterErrorDescription": why.description}
        content = entry.content.with_properties({key: value for key, value in added.items() if value is not None})
        buried = Entry(entry.sequence, content, entry.enqueued_at, source=self.name)
        buried.delivery_count = entry.delivery_count
        self.dead._begin(buried, now)

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry.sequence]
        session = entry.session
        if session is not None and session.idle:
            self.sessions.pop(session.id, None)

    def _next_ready(self, now: float) -> MessageSession | None:
        while self._ready:
            id, _ = self._ready.popitem(last=False)
            session = self.sessions.get(id)
            if session is None:
                continue
            while session.waiting and not self._is_free(session.waiting[0]):
                heapq.heappop(session.waiting)
            if session.waiting:
                return session
        return None

    def _is_free(self, sequence: int) -> bool:
        entry = self._entries.get(sequence)
        return entry is not None and entry.token is None and entry.state is State.ACTIVE

    def _hold(self, session: MessageSession, now: float) -> None:
        session.locked_until = now + self.options.lock
        self._held[session.id] = session
        self._held.move_to_end(session.id)

    def _let_go(self, session: MessageSession) -> None:
        session.holder = None
        self._held.pop(session.id, None)
        if session.waiting:
            self._ready.setdefault(session.id)
        elif session.idle:
            self.sessions.pop(session.id, None)

    def _end_locks(self, now: float) -> list[Holder]:
        for entry in list(self._locked.values()):
            if entry.locked_until > now:
                break
            self._unlock(entry)
            self._fail(entry, now)
        return []

    def _end_sessions(self, now: float) -> list[Holder]:
        lost: list[Holder] = []
        while self._held:
            session = next(iter(self._held.values()))
            if session.locked_until > now:
                break
            if session.holder is not None:
                lost.append(session.holder)
            for entry in list(session.held.values()):
                self._unlock(entry)
                self._fail(entry, now)
            self._let_go(session)
        return lost


def _is_of(entry: Entry, session: MessageSession | None) -> bool:
    return (None if entry.session is None else entry.session.id) == (None if session is None else session.id)
