//! Changes that make new inputs of known ones. The same seed gives the same changes.

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough to choose changes by.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`; 0 for none.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        if limit == 0 {
            return 0;
        }
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// Numbers at which formats and arithmetic turn.
const NUMBERS: [&str; 20] = [
    "0",
    "-0",
    "1",
    "-1",
    "0.5",
    "1e308",
    "-1e308",
    "1e-320",
    "1e400",
    ".inf",
    ".nan",
    "255",
    "65536",
    "2147483648",
    "4294967295",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999",
    "0x10",
];

/// And as they stand in binary formats, little and big end first.
const BYTES: [&[u8]; 8] = [
    &[0],
    &[0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0, 0, 0, 0],
    &[0xff; 8],
    &[0, 0, 0, 1],
];

/// Copies of a part that are put in at once: enough to make exponents, depths and repetition show.
const COPIES: [usize; 6] = [2, 3, 8, 30, 100, 1_000];

/// One input from the pool with one to eight changes, at most `longest` bytes.
pub(crate) fn changed(
    pool: &[Vec<u8>],
    words: &[&str],
    longest: usize,
    random: &mut Random,
) -> Vec<u8> {
    let mut input = random.of(pool).cloned().unwrap_or_default();
    for _ in 0..=random.below(8) {
        change(&mut input, pool, words, random);
        input.truncate(longest);
    }
    input
}

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(10) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        2 => drop(input.drain(part(input.len(), random))),
        3 => {
            let copied = input[part(input.len(), random)].to_vec();
            insert(input, at, &copied);
        }
        4 => {
            let copied = input[part(input.len().min(at + 40), random)].to_vec();
            let times = random.of(&COPIES).copied().unwrap_or(1);
            insert(
                input,
                at,
                &copied.repeat(times.min(65_536 / copied.len().max(1))),
            );
        }
        5 | 6 => {
            if let Some(word) = random.of(words) {
                insert(input, at, word.as_bytes());
            }
        }
        7 => number(input, at, random),
        8 => {
            let bytes = random.of(&BYTES).copied().unwrap_or_default();
            let end = input.len().min(at + bytes.len());
            input.splice(at..end, bytes.iter().copied());
        }
        _ => {
            let other = random.of(pool).cloned().unwrap_or_default();
            let taken = other[part(other.len(), random)].to_vec();
            insert(input, at, &taken);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

/// A part of what has `len` bytes, mostly a short one.
fn part(len: usize, random: &mut Random) -> std::ops::Range<usize> {
    let begin = random.below(len);
    let longest = if random.below(4) == 0 { len } else { 32 };
    let end = len.min(begin + 1 + random.below(longest));
    begin..end
}

/// Another number in place of the one at or after a place.
fn number(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(begin) = input[at..].iter().position(u8::is_ascii_digit) else {
        return;
    };
    let begin = at + begin;
    let digits = input[begin..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let end = begin + digits.count();
    let number = random.of(&NUMBERS).copied().unwrap_or("0");
    input.splice(begin..end, number.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_others_make_others() {
        let pool = vec![b"a: [1, 20]".to_vec(), Vec::new(), b"xyz".to_vec()];
        let made = |seed| -> Vec<Vec<u8>> {
            let mut random = Random::new(seed);
            (0..2_000)
                .map(|_| changed(&pool, &["&a", "*a"], 64, &mut random))
                .collect()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        let inputs = made(1);
        assert!(inputs.iter().all(|input| input.len() <= 64));
        let distinct: std::collections::BTreeSet<_> = inputs.iter().collect();
        assert!(distinct.len() > 1_000, "{}", distinct.len());
        let has = |word: &[u8]| {
            inputs
                .iter()
                .any(|input| input.windows(word.len()).any(|at| at == word))
        };
        assert!(has(b"*a") && has(b"1e308") && has(&[0xff; 4]));
    }
}
