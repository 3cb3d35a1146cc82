//! Access logs as lists of what to ask for, in the order in which it was asked.

use std::collections::HashMap;

/// What was asked for, by a log in the combined format or as JSON (an object a line).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Each target once.
    pub targets: Vec<String>,
    /// Numbers of targets, in the order of the log.
    pub order: Vec<u32>,
    /// Lines that are no GET with an answer of less than 400: these are left out.
    pub skipped: usize,
}

impl Replay {
    /// Reads a log.
    pub fn of_log(text: &str) -> Replay {
        let mut replay = Replay::default();
        let mut numbers: HashMap<String, u32> = HashMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let target = if line.starts_with('{') { of_json(line) } else { of_combined(line) };
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
        }
        replay
    }
}

fn of_json(line: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let was_answered = (200..400).contains(&value["status"].as_u64()?);
    (was_answered && value["method"] == "GET").then(|| value["target"].as_str().map(str::to_owned))?
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
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|\\n|\"GET |\\\\x|\\{){0,60}") {
            let replay = Replay::of_log(&text);
            prop_assert!(replay.order.iter().all(|&number| (number as usize) < replay.targets.len()));
        }
    }
}
