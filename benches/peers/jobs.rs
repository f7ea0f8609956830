//! The jobs in flight, and how long each took.

use std::time::Instant;

/// Bytes of a job's data.
pub const DATA_SIZE: usize = 16;
/// How many of them are the place of the job among those in flight, in hexadecimal; the others are a serial number.
const PLACE_SIZE: usize = 4;
/// Round trips that there is room for from the start.
const ROUND_TRIPS: usize = 1 << 20;

/// Data of a job.
pub type Data = [u8; DATA_SIZE];

/// Jobs in flight, and round trips measured since the start of a run.
pub struct Jobs {
    now: Instant,
    places: Vec<Place>,
    free: Vec<usize>,
    serial: u64,
    round_trips: Vec<f64>,
}

struct Place {
    /// `None` when no job is in this place.
    data: Option<Data>,
    at: Instant,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            now: Instant::now(),
            places: Vec::new(),
            free: Vec::new(),
            serial: 0,
            round_trips: Vec::with_capacity(ROUND_TRIPS),
        }
    }
}

impl Jobs {
    /// Starts a measurement; jobs in flight stay so.
    pub fn start(&mut self, now: Instant) {
        self.now = now;
        self.round_trips.clear();
    }

    /// When the events that are acted on were received.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Says that time has passed.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// How many jobs have no result.
    pub fn in_flight(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Microseconds that the jobs took which ended since the start.
    pub fn round_trips(&self) -> &[f64] {
        &self.round_trips
    }

    /// The data of a new job.
    pub fn begin(&mut self) -> Data {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                data: None,
                at: self.now,
            });
            self.places.len() - 1
        });
        self.serial += 1;
        let mut data = [0; DATA_SIZE];
        write_hex(&mut data[..PLACE_SIZE], place as u64);
        write_hex(&mut data[PLACE_SIZE..], self.serial);
        self.places[place] = Place {
            data: Some(data),
            at: self.now,
        };
        data
    }

    /// Counts the job with these data; an error if there is none in flight.
    pub fn end(&mut self, data: &[u8]) -> shared::Result<()> {
        let job = data
            .get(..PLACE_SIZE)
            .and_then(read_hex)
            .and_then(|place| Some((place, self.places.get_mut(place)?)))
            .filter(|(_, job)| job.data.as_ref().is_some_and(|expected| expected == data));
        let Some((place, job)) = job else {
            let text = String::from_utf8_lossy(data);
            return Err(format!("a result came for no job in flight: {text}"));
        };
        job.data = None;
        self.free.push(place);
        self.round_trips
            .push(self.now.duration_since(job.at).as_secs_f64() * 1e6);
        Ok(())
    }
}

fn write_hex(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | usize::from(digit))
    })
}
