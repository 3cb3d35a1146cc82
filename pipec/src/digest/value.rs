//! A digest's value: bytes, in the order in which they are written down.

use super::algorithm::Algorithm;
use super::base64;

/// What a digest came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value(pub(crate) Vec<u8>);

impl Value {
    /// A number of so many bytes.
    pub(crate) fn of_number(number: u64, bytes: usize) -> Value {
        let all = number.to_be_bytes();
        Value(all[all.len() - bytes.min(all.len())..].to_vec())
    }

    /// The number that the last eight bytes make.
    pub(crate) fn number(&self) -> u64 {
        self.0.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// Two digits a byte.
    pub(crate) fn hex(&self) -> String {
        use std::fmt::Write as _;
        self.0.iter().fold(String::with_capacity(2 * self.0.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// As the line of a list has it: base64 on request, decimal for the old tools' sums, else hexadecimal.
    pub(crate) fn text(&self, algorithm: &Algorithm, as_base64: bool) -> String {
        match algorithm.classic {
            _ if as_base64 => base64::encode(&self.0),
            Some(_) => self.number().to_string(),
            None => self.hex(),
        }
    }

    /// What a text says that `algorithm` came to, in whatever way it is written.
    pub(crate) fn parse(text: &[u8], algorithm: &Algorithm) -> Option<Value> {
        let value = if algorithm.classic.is_some()
            && !text.is_empty()
            && text.len() <= 10
            && text.iter().all(u8::is_ascii_digit)
        {
            let number: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            if number >> (8 * algorithm.bytes) != 0 {
                return None;
            }
            Value::of_number(number, algorithm.bytes)
        } else {
            // No base64 is taken for hexadecimal: where it is as long, it ends in padding.
            Value::from_hex(text)
                .filter(|value| value.0.len() == algorithm.bytes)
                .or_else(|| base64::decode(text).map(Value))?
        };
        (value.0.len() == algorithm.bytes).then_some(value)
    }

    fn from_hex(text: &[u8]) -> Option<Value> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
        text.chunks(2).map(pair).collect::<Option<_>>().map(Value)
    }
}
