//! HTTP dates (RFC 9110 section 5.6.7): parsing all three forms, and the current date formatted once a
//! second.
//!
//! No clock is read here: whoever drives the server says what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runtime::buffer::Shared;

use super::hpack;

/// Length of an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const IMF_FIXDATE_LEN: usize = 29;

/// The last second that [`format()`] can express: 9999-12-31T23:59:59Z.
pub const MAX_UNIX: u64 = 253_402_300_799;

/// Seconds since 1970 of an HTTP date in any of the three forms that a recipient must accept, or `None` for
/// anything else and for dates before 1970.
pub fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let time = httpdate::parse_http_date(text.trim_matches([' ', '\t'])).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// The same of a day as in `06 Nov 1994` and a time as in `08:49:37`, where nobody says which day of the week
/// it is.
pub(crate) fn parse_without_weekday(day: &str, time: &str) -> Option<u64> {
    // One of the seven is right, and no other is taken.
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    days.iter().find_map(|weekday| parse(format!("{weekday}, {day} {time} GMT").as_bytes()))
}

/// `unix` (seconds since 1970) as an IMF-fixdate. Times after the year 9999 are written as its last second.
pub fn format(unix: u64) -> [u8; IMF_FIXDATE_LEN] {
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(unix.min(MAX_UNIX));
    let mut text = [b' '; IMF_FIXDATE_LEN];
    let mut rest = &mut text[..];
    // The date always has exactly this length, so the write cannot fall short.
    let _ = std::io::Write::write_fmt(&mut rest, format_args!("{}", httpdate::HttpDate::from(time)));
    text
}

/// What closes every response head, for each way of saying whether the connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1's default: nothing to say.
    Implicit,
    /// `Connection: keep-alive`, for HTTP/1.0 clients that asked for it.
    KeepAlive,
    /// `Connection: close`.
    Close,
}

impl Persistence {
    /// The line that says so.
    pub(crate) fn line(self) -> &'static [u8] {
        match self {
            Persistence::Implicit => b"",
            Persistence::KeepAlive => b"Connection: keep-alive\r\n",
            Persistence::Close => b"Connection: close\r\n",
        }
    }
}

/// The end of a response head (`Date`, `Connection` and the empty line), formatted once a second into buffers
/// that all responses of the second share.
#[derive(Clone, Debug)]
pub struct HeadTails {
    unix: u64,
    /// Lines that all of them have.
    lines: Box<[u8]>,
    implicit: Shared,
    keep_alive: Shared,
    close: Shared,
    block: Shared,
}

impl HeadTails {
    /// Tails for the second `unix` since 1970.
    pub fn new(unix: u64) -> HeadTails {
        HeadTails::with_lines(unix, Box::default())
    }

    /// The same, of heads that all have `lines`, each ended by CR LF.
    pub fn with_lines(unix: u64, lines: Box<[u8]>) -> HeadTails {
        let tail = |persistence| {
            let mut text = lines.to_vec();
            write_tail(unix, persistence, &mut text);
            Shared::from(text)
        };
        HeadTails {
            unix,
            implicit: tail(Persistence::Implicit),
            keep_alive: tail(Persistence::KeepAlive),
            close: tail(Persistence::Close),
            block: Shared::from(tail_block(unix, &lines)),
            lines,
        }
    }

    /// Moves to the second `unix`; costs a comparison when it has not changed.
    pub fn set_time(&mut self, unix: u64) {
        if unix != self.unix {
            *self = HeadTails::with_lines(unix, std::mem::take(&mut self.lines));
        }
    }

    /// The lines that all of them have.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The second since 1970 that the tails say.
    pub fn unix(&self) -> u64 {
        self.unix
    }

    /// `Date: ...`, a `Connection` line if needed, and the empty line.
    pub fn get(&self, persistence: Persistence) -> &Shared {
        match persistence {
            Persistence::Implicit => &self.implicit,
            Persistence::KeepAlive => &self.keep_alive,
            Persistence::Close => &self.close,
        }
    }

    /// What [`tail_block`] gives.
    pub fn block(&self) -> &Shared {
        &self.block
    }
}

/// The end of a head as HTTP/2 has it: `lines` and `date`, as a block of HPACK.
pub fn tail_block(unix: u64, lines: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(IMF_FIXDATE_LEN);
    hpack::of_head(lines, &mut block);
    hpack::field(b"date", &format(unix), &mut block);
    block
}

/// Formats the end of a head that is sent in the second `unix`.
pub fn write_tail(unix: u64, persistence: Persistence, out: &mut Vec<u8>) {
    for part in [&b"Date: "[..], &format(unix), b"\r\n", persistence.line(), b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_day_of_the_week_need_not_be_said() {
        for unix in (0..20).map(|day| 784_111_777 + day * 86_400) {
            let text = String::from_utf8(format(unix).to_vec()).unwrap();
            assert_eq!(parse_without_weekday(&text[5..16], &text[17..25]), Some(unix), "{text}");
        }
        assert_eq!(parse_without_weekday("31 Feb 2020", "08:49:37"), None);
    }

    /// Days since 1970 to (year, month, day) by counting, the way a calendar does.
    fn civil(mut days: u64) -> (u64, usize, u64) {
        let leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
        let mut year = 1970;
        while days >= 365 + u64::from(leap(year)) {
            days -= 365 + u64::from(leap(year));
            year += 1;
        }
        let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while days >= lengths[month] {
            days -= lengths[month];
            month += 1;
        }
        (year, month, days + 1)
    }

    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const LONG: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

    #[test]
    fn the_examples_of_rfc_9110() {
        assert_eq!(&format(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "  Sun, 06 Nov 1994 08:49:37 GMT ",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_date() {
        for text in
            ["", "0", "yesterday", "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT", "\u{e9}"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff\xfe"), None);
        assert_eq!(parse(b"Wed, 31 Dec 1969 23:59:59 GMT"), None);
    }

    #[test]
    fn tails_follow_the_clock() {
        let mut tails = HeadTails::new(0);
        assert_eq!(tails.get(Persistence::Implicit)[..], *b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n");
        tails.set_time(784_111_777);
        assert_eq!(
            tails.get(Persistence::Close)[..],
            *b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\n"
        );
    }

    proptest! {
        #[test]
        fn format_agrees_with_a_calendar(unix in 0..=MAX_UNIX) {
            let (year, month, day) = civil(unix / 86_400);
            let (h, m, s) = (unix / 3600 % 24, unix / 60 % 60, unix % 60);
            let weekday = (unix / 86_400 % 7) as usize;
            let expected =
                format!("{}, {day:02} {} {year:04} {h:02}:{m:02}:{s:02} GMT", DAYS[weekday], MONTHS[month]);
            let formatted = format(unix);
            prop_assert_eq!(std::str::from_utf8(&formatted).unwrap(), &expected);
            prop_assert_eq!(parse(expected.as_bytes()), Some(unix));
            let asctime =
                format!("{} {} {day:2} {h:02}:{m:02}:{s:02} {year:04}", DAYS[weekday], MONTHS[month]);
            prop_assert_eq!(parse(asctime.as_bytes()), Some(unix));
            if (1970..2069).contains(&year) {
                let rfc850 = format!(
                    "{}, {day:02}-{}-{:02} {h:02}:{m:02}:{s:02} GMT", LONG[weekday], MONTHS[month], year % 100
                );
                prop_assert_eq!(parse(rfc850.as_bytes()), Some(unix));
            }
        }

        #[test]
        fn parse_never_panics(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&text);
        }
    }
}
