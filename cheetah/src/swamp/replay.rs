//! Access logs as lists of what to ask for, in the order in which it was asked.

use std::collections::HashMap;

use crate::http::date;

/// What was asked for, by a log in the combined format or as JSON (an object a line).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Each target once.
    pub targets: Vec<String>,
    /// Numbers of targets, in the order of the log.
    pub order: Vec<u32>,
    /// When each was asked for, in seconds since 1970, if the log says it of the first: a line that does not
    /// say it counts as its predecessor.
    pub seconds: Option<Vec<u64>>,
    /// Lines that are no GET with an answer of less than 400: these are left out.
    pub skipped: usize,
}

impl Replay {
    /// Reads a log.
    pub fn of_log(text: &str) -> Replay {
        let mut replay = Replay::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut seconds: Option<Vec<u64>> = Some(Vec::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (target, second) = match line.starts_with('{') {
                true => of_json(line),
                false => (of_combined(line), second_of_combined(line)),
            };
            let Some(target) = target.filter(|target| super::target::check_path(target).is_ok()) else {
                replay.skipped += 1;
                continue;
            };
            let next = replay.targets.len() as u32;
            let number = *numbers.entry(target).or_insert_with_key(|target| {
                replay.targets.push(target.clone());
                next
            });
            replay.order.push(number);
            seconds = seconds.and_then(|mut seconds| {
                seconds.push(second.or(seconds.last().copied())?);
                Some(seconds)
            });
        }
        replay.seconds = seconds.filter(|seconds| !seconds.is_empty());
        replay
    }
}

/// What was asked for, and in which second.
fn of_json(line: &str) -> (Option<String>, Option<u64>) {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return (None, None) };
    let was_answered = value["status"].as_u64().is_some_and(|status| (200..400).contains(&status));
    let is_wanted = was_answered && value["method"] == "GET";
    let target = value["target"].as_str().filter(|_| is_wanted).map(str::to_owned);
    (target, value["time"].as_u64())
}

/// `... [06/Nov/1994:08:49:37 +0100] "...`, in seconds since 1970.
fn second_of_combined(line: &str) -> Option<u64> {
    let (before, _) = line.split_once("] \"GET ")?;
    let (_, time) = before.rsplit_once('[')?;
    let (time, zone) = time.split_once(' ')?;
    let (day, clock) = time.split_once(':')?;
    let second = date::parse_without_weekday(&day.replace('/', " "), clock)?;
    let (sign, digits) = zone.split_at_checked(1)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() == 4)?;
    let east = (number / 100 * 60 + number % 100) * 60;
    match sign {
        "+" => second.checked_sub(east),
        "-" => second.checked_add(east),
        _ => None,
    }
}

/// `... "GET /target HTTP/1.1" 200 ...`, quotes, backslashes and odd bytes escaped.
fn of_combined(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("\"GET ")?;
    let mut target = Vec::new();
    let mut bytes = rest.bytes().enumerate();
    let mut next = || bytes.next();
    let end = loop {
        match next()? {
            (_, b'\\') => match next()?.1 {
                b'x' => {
                    let digits = [next()?.1, next()?.1];
                    target.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                }
                other => target.push(other),
            },
            (end, b' ') => break end,
            (_, b'"') => return None,
            (_, other) => target.push(other),
        }
    };
    let rest = &rest[end..];
    let status: u16 = rest.split_once("\" ")?.1.get(..3)?.parse().ok()?;
    (200..400).contains(&status).then(|| String::from_utf8(target).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_log_is_read_in_its_order() {
        let text = "1.2.3.4 - - [06/Nov/1994:08:49:37 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"curl\"\n\
            1.2.3.4 - - [06/Nov/1994:08:49:37 +0000] \"GET /b?x=\\\"y\\\\\\x41 HTTP/1.1\" 206 5 \"-\" \"a \\\"GET /c \"\n\
            1.2.3.4 - - [06/Nov/1994:08:49:37 +0000] \"POST /a HTTP/1.1\" 200 5 \"-\" \"-\"\n\
            1.2.3.4 - - [06/Nov/1994:08:49:37 +0000] \"GET /gone HTTP/1.1\" 404 5 \"-\" \"-\"\n\
            1.2.3.4 - - [06/Nov/1994:08:49:37 +0000] \"\\x16\\x03\" 400 5 \"-\" \"-\"\n\
            \n\
            {\"bytes\":5,\"method\":\"GET\",\"status\":304,\"target\":\"/a\"}\n\
            {\"bytes\":5,\"method\":\"HEAD\",\"status\":200,\"target\":\"/a\"}\n\
            {\"bytes\":5,\"method\":\"GET\",\"status\":200,\"target\":\"/d e\"}\n\
            {\n";
        let replay = Replay::of_log(text);
        assert_eq!(replay.targets, ["/a", "/b?x=\"y\\A"]);
        assert_eq!((replay.order, replay.skipped), (vec![0, 1, 0], 6));
        assert_eq!(replay.seconds, Some(vec![784_111_777; 3]), "of one it is not said");
        assert_eq!(Replay::of_log("{\"method\":\"GET\",\"status\":304,\"target\":\"/a\"}\n").seconds, None);
    }

    #[test]
    fn what_time_it_was_is_read() {
        let text = "::1 - a] \"b [06/Nov/1994:08:49:37 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"-\"\n\
            ::1 - - [06/Nov/1994:09:49:38 +0100] \"GET /a HTTP/1.1\" 200 5 \"-\" \"-\"\n\
            ::1 - - [06/Nov/1994:05:19:39 -0330] \"GET /a HTTP/1.1\" 200 5 \"-\" \"-\"\n\
            ::1 - - [01/Jan/2020:00:00:00 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"-\"\n\
            {\"time\":784111780,\"method\":\"GET\",\"status\":200,\"target\":\"/a\"}\n";
        assert_eq!(
            Replay::of_log(text).seconds,
            Some(vec![784_111_777, 784_111_778, 784_111_779, 1_577_836_800, 784_111_780])
        );
        for bad in [
            "[x] \"GET ",
            "[06/Nov/1994:08:49:37 0000] \"GET ",
            "[06/Nov:1 +0000] \"GET ",
            "[] \"GET ",
            "[: +9] \"GET ",
            "[é: é] \"GET ",
        ] {
            assert_eq!(second_of_combined(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|\\n|\\] \"GET |\\[06/Nov/1994:|\\\\x|\\{){0,60}") {
            let replay = Replay::of_log(&text);
            prop_assert!(replay.order.iter().all(|&number| (number as usize) < replay.targets.len()));
            prop_assert!(replay.seconds.is_none_or(|seconds| seconds.len() == replay.order.len()));
        }
    }
}
