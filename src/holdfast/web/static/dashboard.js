// Keeps a page up to date: an EventSource says when something has changed, then the page is fetched, and what differs is
// put in its place. Nothing is asked while the page is hidden. Without this script all pages work, and stand still.
"use strict";

const PATIENCE = 12; // Seconds without an answer after which it is said that there is none.
const live = document.getElementById("live");
let source = null;
let seen = null;
let answered = 0;
let fetching = false;
let skew = 0; // Seconds by which this clock is ahead of the server's.

function say(words, ill) {
  live.hidden = false;
  live.classList.toggle("ill", ill);
  if (live.textContent !== words) live.textContent = words;
}

// --- moments, as seen from now

function told(seconds) {
  const past = seconds >= 0;
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  const [unit, name] = size >= 86400 ? [86400, "d"] : size >= 3600 ? [3600, "h"] : size >= 60 ? [60, "m"] : [1, "s"];
  const span = Math.floor(size / unit) + name;
  return past ? span + " ago" : "in " + span;
}

function tick() {
  for (const each of document.querySelectorAll("time[data-ago]")) {
    const moment = Date.parse(each.dateTime);
    if (Number.isFinite(moment)) {
      const words = told(Date.now() / 1000 - skew - moment / 1000);
      if (each.textContent !== words) each.textContent = words;
    }
  }
}

function reckon() {
  skew = Date.now() / 1000 - Number(document.getElementById("main").dataset.now);
}

// --- putting what differs in its place, so that focus, marks and scrolled places stay

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id || "" : "";
}

function become(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const name of old.getAttributeNames()) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const name of fresh.getAttributeNames()) {
    if (old.getAttribute(name) !== fresh.getAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
  }
  const rest = [...old.childNodes];
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const match = rest.find((each) => alike(each, child));
    if (match) {
      rest.splice(rest.indexOf(match), 1);
      if (match !== place) old.insertBefore(match, place);
      else place = place.nextSibling;
      become(match, child);
    } else {
      old.insertBefore(child, place);
    }
  }
  for (const each of rest) each.remove();
}

async function refresh() {
  if (fetching) return;
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected && new URL(answer.url).pathname.endsWith("/login")) {
      leave("signed out: load this page again");
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("main");
    const main = document.getElementById("main");
    if (!answer.ok || !fresh) {
      say("not live: the server says " + answer.status, true);
      return;
    }
    seen = fresh.dataset.seen || seen;
    become(main, fresh);
    reckon();
    tick();
    if (!main.dataset.events) leave("ended");
  } catch (error) {
    say("not live: no answer", true);
  } finally {
    fetching = false;
  }
}

// --- asking whether anything has changed

function begin() {
  const main = document.getElementById("main");
  if (source || !main.dataset.events || document.hidden) return;
  seen = main.dataset.seen;
  answered = Date.now();
  source = new EventSource(main.dataset.events + "&seen=" + encodeURIComponent(seen));
  source.addEventListener("open", () => {
    answered = Date.now();
    say("live", false);
  });
  source.addEventListener("changed", (event) => {
    if (event.data !== seen) refresh();
  });
  source.addEventListener("error", () => {
    // An answer that has ended is no error: the browser asks again by itself.
    if (source && source.readyState === EventSource.CLOSED) {
      rest();
      say("not live: refused", true);
      setTimeout(begin, PATIENCE * 1000);
    }
  });
}

function rest() {
  if (source) source.close();
  source = null;
}

function leave(words) {
  rest();
  say(words, words !== "ended");
}

if (document.getElementById("main").dataset.events) {
  begin();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      rest();
    } else {
      begin();
    }
  });
  setInterval(() => {
    if (source && Date.now() - answered > PATIENCE * 1000) say("not live: no answer", true);
  }, 1000);
}
reckon();
setInterval(tick, 1000);

// --- marking all dead letters of a page

for (const all of document.querySelectorAll("input[data-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const one of document.querySelectorAll('input[type="checkbox"][form="' + all.dataset.all + '"]')) {
      one.checked = all.checked;
    }
  });
}
