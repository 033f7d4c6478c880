//! The baseline: a walk over the protobuf bytes of one known shape that borrows, allocates nothing and trusts its input.

/// What is found on the way.
enum Part<'a> {
    Text(&'a [u8]),
    Time(&'a [u8]),
    Amount(&'a [u8]),
}

/// Finds every name, time and amount and only adds up their lengths: the least that going through the bytes takes.
pub(super) fn bare(list: &[u8]) -> u64 {
    walk(list, |part| match part {
        Part::Text(bytes) | Part::Time(bytes) | Part::Amount(bytes) => bytes.len() as u64,
    })
}

/// Finds the same and reads it as what it is: names as UTF-8, times and amounts as numbers.
pub(super) fn reading(list: &[u8]) -> u64 {
    walk(list, |part| match part {
        Part::Text(bytes) => std::str::from_utf8(bytes).unwrap().len() as u64,
        Part::Time(bytes) => varint(&mut &bytes[1..]),
        Part::Amount(bytes) => {
            let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
            digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
        }
    })
}

/// The sum of what `read` makes of each part, so that nothing is optimised away.
fn walk(list: &[u8], read: impl Fn(Part<'_>) -> u64) -> u64 {
    let mut found = 0_u64;
    let mut add = |part: Part<'_>| found = found.wrapping_add(read(part));
    each(&list[4..], |number, raw| {
        if number == 2 {
            each(raw, |number, item| {
                if number == 2 {
                    each(item, |number, field| pod_part(number, field, &mut add));
                }
            });
        }
    });
    found
}

fn pod_part(number: u64, field: &[u8], add: &mut impl FnMut(Part<'_>)) {
    match number {
        1 => each(field, |number, text| {
            if matches!(number, 1 | 3) {
                add(Part::Text(text));
            }
        }),
        2 => add(Part::Time(field)),
        4 => each(field, |number, field| match number {
            1 => add(Part::Text(field)),
            _ => each(field, |number, value| match number {
                1 => add(Part::Text(value)),
                _ => each(value, |_, amount| add(Part::Amount(amount))),
            }),
        }),
        _ => {}
    }
}

/// Every length-delimited field; these messages have no others where this is called.
fn each<'a>(mut rest: &'a [u8], mut field: impl FnMut(u64, &'a [u8])) {
    while !rest.is_empty() {
        let number = varint(&mut rest) >> 3;
        let len = usize::try_from(varint(&mut rest)).unwrap();
        let (value, after) = rest.split_at(len);
        field(number, value);
        rest = after;
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    let mut shift = 0;
    loop {
        let byte = rest[0];
        *rest = &rest[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
        shift += 7;
    }
}
