//! Lines to try: a corpus, and endless variations of it, the same in every run.

/// Requests, right and wrong.
pub fn requests() -> Vec<&'static str> {
    include_str!("../requests.txt").lines().collect()
}

/// Lines for workers.
#[allow(dead_code, reason = "not every test needs them")]
pub fn orders() -> Vec<&'static str> {
    include_str!("../orders.txt").lines().collect()
}

/// Bytes that mean something somewhere.
const TELLING: &[u8] = b"{}[]\":,.\\/ \t\r\x00019-+exXuD\x7f#A\xc3\xa7\xff";

/// Lines of a corpus with bytes inserted, changed, lost, or put together from two lines.
pub fn variations(corpus: Vec<&'static str>, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || {
        let any = |random: &mut fastrand::Rng| corpus[random.usize(..corpus.len())].as_bytes();
        let mut line = any(&mut random).to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..=line.len());
            let byte = TELLING[random.usize(..TELLING.len())];
            match random.u8(..5) {
                0 => line.truncate(at),
                1 => drop(line.drain(at..line.len().min(at + random.usize(..4)))),
                2 => line.insert(at, byte),
                3 if at < line.len() => line[at] = byte,
                _ => {
                    let other = any(&mut random);
                    line.truncate(at);
                    line.extend_from_slice(&other[random.usize(..=other.len())..]);
                }
            }
        }
        line
    })
}
