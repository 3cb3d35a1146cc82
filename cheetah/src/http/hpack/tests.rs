//! The RFC's examples, and properties against a decoder of one bit at a time.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, BadBlock> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder.decode(block, &mut Vec::new(), |name, value| fields.push((text(name), text(value))))?;
    Ok(fields)
}

/// RFC 7541, appendices C.3 and C.4: three requests on a connection, without Huffman's code and with it.
#[test]
fn the_requests_of_the_rfc() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        let first =
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        for (block, expected) in blocks.iter().zip([&first[..], &second, &third]) {
            let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
            let expected: Vec<_> = expected.iter().map(owned).collect();
            assert_eq!(decoded(&mut decoder, &bytes(block)), Ok(expected));
        }
        assert_eq!(decoder.size, 164);
    }
}

/// Appendix C.6, of the end of a table that is full: the third response, in a table of 256 bytes.
#[test]
fn entries_are_dropped_from_a_full_table() {
    let mut decoder = Decoder::default();
    let blocks = [
        "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let mut last = Vec::new();
    for block in blocks {
        last = decoded(&mut decoder, &bytes(block)).unwrap();
    }
    assert_eq!(decoder.size, 215);
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    assert_eq!(last[5], ("set-cookie".to_owned(), cookie.to_owned()));
    assert_eq!(last[1], ("cache-control".to_owned(), "private".to_owned()));
}

#[test]
fn blocks_that_are_wrong() {
    for block in [
        "80",                   // index 0
        "be",                   // beyond an empty table
        "ff ff ff ff ff ff",    // an integer without end
        "7f 80 80 80 80 80 01", // one that is too long
        "3f e2 1f",             // a table of 4097 bytes
        "82 20",                // a change of size behind a field
        "00 01",                // a name that is cut
        "00 01 61 05 61",       // a value that is cut
        "00 81 ff 00",          // eight bits of padding
        "00 81 00 00",          // padding of zeros
        "00 84 ff ff ff ff 00", // the end's code
    ] {
        assert_eq!(decoded(&mut Decoder::default(), &bytes(block)), Err(BadBlock), "{block}");
    }
    assert_eq!(decoded(&mut Decoder::default(), &bytes("3f e1 1f 82")).unwrap().len(), 1);
}

/// Symbols bit by bit, from the code's definition.
fn slowly(input: &[u8]) -> Option<Vec<u8>> {
    let bits: Vec<bool> =
        input.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1 == 1)).collect();
    let mut codes = std::collections::BTreeMap::new();
    for symbol in 0..=255_u8 {
        // Eight codes have as many bytes as one has bits.
        let (mut once, len) = (Vec::new(), huffman::encoded_len(&[symbol; 8]));
        huffman::encode(&[symbol], &mut once);
        let code: Vec<bool> =
            once.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1 == 1)).take(len).collect();
        codes.insert(code, symbol);
    }
    let (mut out, mut current) = (Vec::new(), Vec::new());
    for bit in bits {
        current.push(bit);
        if let Some(&symbol) = codes.get(&current) {
            out.push(symbol);
            current.clear();
        }
    }
    (current.len() < 8 && current.iter().all(|&bit| bit)).then_some(out)
}

#[test]
fn the_code_is_complete() {
    // Kraft's sum, of the end's code too: nothing but the code of the end is left over.
    let of_bytes: u64 = (0..=255_u8).map(|byte| 1 << (30 - huffman::encoded_len(&[byte; 8]))).sum();
    assert_eq!(of_bytes + 1, 1 << 30);
}

#[test]
fn heads_become_blocks() {
    let mut block = Vec::new();
    of_head(
        b"HTTP/1.1 200 OK\r\nServer: cheetah\r\nContent-Length: 5\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
          X-Mine:  a:b \r\n\r\n",
        &mut block,
    );
    let fields = decoded(&mut Decoder::default(), &block).unwrap();
    let fields: Vec<_> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let expected = [(":status", "200"), ("server", "cheetah"), ("content-length", "5"), ("x-mine", "a:b")];
    assert_eq!(fields, expected);
    assert_eq!(block[0], 0x88, "the static table has it");
    for code in ["200", "204", "206", "304", "400", "404", "500", "301", "503"] {
        let mut block = Vec::new();
        status(code.as_bytes(), &mut block);
        let fields = decoded(&mut Decoder::default(), &block).unwrap();
        assert_eq!(fields, [(":status".to_owned(), code.to_owned())]);
    }
}

proptest! {
    #[test]
    fn strings_come_back(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut coded, mut back) = (Vec::new(), Vec::new());
        huffman::encode(&text, &mut coded);
        prop_assert_eq!(coded.len(), huffman::encoded_len(&text));
        prop_assert_eq!(huffman::decode(&coded, &mut back), Ok(()));
        prop_assert_eq!(back, text);
    }

    #[test]
    fn any_bytes_are_decoded_as_bit_by_bit(input in proptest::collection::vec(any::<u8>(), 0..12)) {
        let mut fast = Vec::new();
        let result = huffman::decode(&input, &mut fast);
        prop_assert_eq!(result.ok().map(|()| fast), slowly(&input));
    }

    #[test]
    fn fields_come_back(fields in proptest::collection::vec(("[a-z][a-z0-9-]{0,20}", "[ -~]{0,300}"), 0..20)) {
        let mut block = vec![EMPTY_TABLE];
        fields.iter().for_each(|(name, value)| field(name.as_bytes(), value.as_bytes(), &mut block));
        prop_assert_eq!(decoded(&mut Decoder::default(), &block).unwrap(), fields);
    }

    #[test]
    fn any_block_is_decoded_or_refused(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..4)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let _ = decoded(&mut decoder, &block);
            let size: usize = decoder.entries.iter().map(|entry| entry.text.len() + 32).sum();
            prop_assert_eq!(size, decoder.size);
            prop_assert!(size <= MAX_TABLE_BYTES);
        }
    }
}
