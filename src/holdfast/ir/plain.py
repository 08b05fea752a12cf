"""What of the standard library only computes: the names that an unsigned program may use of it. Imports nothing.

A name is here if calling it opens, imports, loads and runs nothing but what it is given, reads no file, frame or variable
of the environment, gets no attribute by a name it is told, and makes no classes with methods of the caller's.
"""

from __future__ import annotations

_TABLE = """
base64: a85decode a85encode b16decode b16encode b32decode b32encode b32hexdecode b32hexencode b64decode b64encode b85decode
    b85encode decodebytes encodebytes standard_b64decode standard_b64encode urlsafe_b64decode urlsafe_b64encode z85decode
    z85encode
binascii: Error Incomplete a2b_base64 a2b_hex a2b_qp a2b_uu b2a_base64 b2a_hex b2a_qp b2a_uu crc32 crc_hqx hexlify unhexlify
bisect: bisect bisect_left bisect_right insort insort_left insort_right
calendar: Calendar Day FRIDAY IllegalMonthError IllegalWeekdayError MONDAY Month SATURDAY SUNDAY THURSDAY TUESDAY WEDNESDAY
    day_abbr day_name isleap leapdays month_abbr month_name monthcalendar monthrange timegm weekday
cmath: acos acosh asin asinh atan atanh cos cosh e exp inf infj isclose isfinite isinf isnan log log10 nan nanj phase pi
    polar rect sin sinh sqrt tan tanh tau
collections: ChainMap Counter OrderedDict defaultdict deque namedtuple
collections.abc: AsyncGenerator AsyncIterable AsyncIterator Awaitable Buffer ByteString Callable Collection Container
    Coroutine Generator Hashable ItemsView Iterable Iterator KeysView Mapping MappingView MutableMapping MutableSequence
    MutableSet Reversible Sequence Set Sized ValuesView
colorsys: hls_to_rgb hsv_to_rgb rgb_to_hls rgb_to_hsv rgb_to_yiq yiq_to_rgb
copy: Error copy deepcopy replace
dataclasses: FrozenInstanceError MISSING asdict astuple is_dataclass replace
datetime: MAXYEAR MINYEAR UTC date datetime time timedelta timezone tzinfo
decimal: Clamped Context Decimal DecimalException DecimalTuple DivisionByZero FloatOperation Inexact InvalidOperation
    MAX_EMAX MAX_PREC MIN_EMIN MIN_ETINY Overflow ROUND_05UP ROUND_CEILING ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN
    ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP Rounded Subnormal Underflow getcontext localcontext
difflib: Differ IS_CHARACTER_JUNK IS_LINE_JUNK Match SequenceMatcher context_diff diff_bytes get_close_matches ndiff restore
    unified_diff
fractions: Fraction
functools: cache cmp_to_key lru_cache partial reduce
hashlib: algorithms_available algorithms_guaranteed blake2b blake2s md5 new pbkdf2_hmac scrypt sha1 sha224 sha256 sha384
    sha3_224 sha3_256 sha3_384 sha3_512 sha512 shake_128 shake_256
heapq: heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest heapify_max heappop_max heappush_max
    heappushpop_max heapreplace_max
hmac: HMAC compare_digest digest new
html: escape unescape
ipaddress: AddressValueError IPv4Address IPv4Interface IPv4Network IPv6Address IPv6Interface IPv6Network NetmaskValueError
    collapse_addresses get_mixed_type_key ip_address ip_interface ip_network summarize_address_range v4_int_to_packed
    v6_int_to_packed
itertools: accumulate batched chain combinations combinations_with_replacement compress count cycle dropwhile filterfalse
    groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest
json: JSONDecodeError JSONDecoder JSONEncoder dumps loads
json.decoder: JSONDecodeError JSONDecoder
json.encoder: JSONEncoder
math: acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp exp2 expm1 fabs
    factorial floor fma fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp lgamma log log10
    log1p log2 modf nan nextafter perm pi pow prod radians remainder sin sinh sqrt sumprod tan tanh tau trunc ulp
numbers: Complex Integral Number Rational Real
operator: abs add and_ concat contains countOf delitem eq floordiv ge gt iadd iand iconcat ifloordiv ilshift imatmul
    imod imul index indexOf inv invert ior ipow irshift is_ is_none is_not is_not_none isub itruediv ixor le
    length_hint lshift lt matmul mod mul ne neg not_ or_ pos pow rshift setitem sub truediv truth xor
posixpath: altsep basename commonpath commonprefix curdir dirname extsep isabs join normcase normpath pardir pathsep sep
    split splitdrive splitext splitroot
random: Random betavariate binomialvariate choice choices expovariate gammavariate gauss getrandbits lognormvariate
    normalvariate paretovariate randbytes randint random randrange sample shuffle triangular uniform vonmisesvariate
    weibullvariate
re: A ASCII DOTALL I IGNORECASE L LOCALE M MULTILINE Match NOFLAG Pattern PatternError RegexFlag S U UNICODE VERBOSE X
    compile error escape findall finditer fullmatch match search split sub subn
secrets: choice compare_digest randbelow randbits token_bytes token_hex token_urlsafe
statistics: LinearRegression NormalDist StatisticsError correlation covariance fmean geometric_mean harmonic_mean kde
    linear_regression mean median median_grouped median_high median_low mode multimode pstdev pvariance quantiles stdev
    variance
string: Template ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits printable punctuation
    whitespace
struct: Struct calcsize error iter_unpack pack pack_into unpack unpack_from
textwrap: TextWrapper dedent fill indent shorten wrap
time: altzone asctime ctime daylight gmtime localtime mktime monotonic monotonic_ns perf_counter perf_counter_ns
    process_time process_time_ns strftime strptime struct_time time time_ns timezone tzname
traceback: format_exc format_exception format_exception_only
types: MappingProxyType NoneType
typing: Any Callable Dict FrozenSet Iterable Iterator List Literal Mapping Optional Sequence Set TYPE_CHECKING Tuple Union
    assert_never assert_type cast
unicodedata: bidirectional category combining decimal decomposition digit east_asian_width is_normalized lookup mirrored
    name normalize numeric unidata_version
urllib.parse: DefragResult DefragResultBytes ParseResult ParseResultBytes SplitResult SplitResultBytes parse_qs parse_qsl
    quote quote_from_bytes quote_plus unquote unquote_plus unquote_to_bytes urldefrag urlencode urljoin urlparse urlsplit
    urlunparse urlunsplit
uuid: NAMESPACE_DNS NAMESPACE_OID NAMESPACE_URL NAMESPACE_X500 RESERVED_FUTURE RESERVED_MICROSOFT RESERVED_NCS RFC_4122
    SafeUUID UUID uuid3 uuid4 uuid5 uuid7
zlib: adler32 compress compressobj crc32 decompress decompressobj error
zoneinfo: ZoneInfo ZoneInfoNotFoundError
"""


def _read(table: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    current = ""
    for word in table.split():
        if word.endswith(":"):
            current = word[:-1]
            found[current] = set()
        else:
            found[current].add(word)
    return {module: frozenset(names) for module, names in found.items()}


PLAIN_NAMES = _read(_TABLE)
"""The names, by module."""

ACCELERATORS = {
    "_bisect": "bisect",
    "_functools": "functools",
    "_heapq": "heapq",
    "_operator": "operator",
    "_statistics": "statistics",
    "_struct": "struct",
}
"""Modules in C that own functions of the modules above: a ref names `operator.add` by `_operator:add`."""

_HASHES = frozenset({"_hashlib", "_blake2", "_md5", "_sha1", "_sha2", "_sha256", "_sha512", "_sha3"})


def is_plain(module: str, name: str) -> bool:
    """Whether `module.name` is of the standard library and only computes."""
    if module in _HASHES:
        return name.removeprefix("openssl_") in PLAIN_NAMES["hashlib"] - {"new"}
    return name in PLAIN_NAMES.get(ACCELERATORS.get(module, module), ())


def is_accelerator(module: str) -> bool:
    """Whether a private module of the standard library owns plain names."""
    return module in ACCELERATORS or module in _HASHES
