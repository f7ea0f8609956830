//! A short history of jobs: what a client asks, what a worker answers, and what the client was told.

use crate::support::PATIENCE;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// Submissions before those that matter, so that the journal's thread has done more than opening the journal did.
const FIRST: usize = 8;
/// What no worker offers while the history runs.
const NOWHERE: &str = "nowhere";
/// How long an answer is waited for before it is asked whether jobs are taken at all.
const WHILE: Duration = Duration::from_millis(200);

/// What a client was told.
#[derive(Debug, Default, Clone)]
pub struct Told {
    /// The data of jobs that were accepted, by their numbers.
    pub accepted: BTreeMap<u64, String>,
    /// Outcome and result of those that have ended. A job that was told to be queued again is not there.
    pub ended: BTreeMap<u64, (String, String)>,
    /// A job that is being cancelled and queued again, of which the last word is not told.
    pub undecided: Option<u64>,
    /// The job of each key.
    pub keys: BTreeMap<String, u64>,
}

/// The coordinator takes no jobs, and has said why.
#[derive(Debug)]
pub struct Refused(pub String);

/// What becomes of a job with these data in the end.
pub fn outcome(data: &str) -> (String, String) {
    if data == "hopeless" {
        ("failed".into(), "no hope".into())
    } else {
        let length = data.len();
        ("completed".into(), format!("{length} bytes"))
    }
}

/// A connection that speaks in lines.
pub struct Peer {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    partial: Vec<u8>,
}

impl Peer {
    pub fn new(port: u16) -> Peer {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer {
            writer: stream.try_clone().unwrap(),
            reader: BufReader::new(stream),
            partial: Vec::new(),
        }
    }

    fn send(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line; none if there is none within the time.
    fn line(&mut self, within: Duration) -> Option<String> {
        self.reader.get_ref().set_read_timeout(Some(within)).unwrap();
        match self.reader.read_until(b'\n', &mut self.partial) {
            Ok(0) => panic!("the coordinator has closed a connection"),
            Ok(_) => {
                let line = String::from_utf8(std::mem::take(&mut self.partial)).unwrap();
                Some(line.trim_end().to_owned())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("the coordinator is gone: {error}"),
        }
    }
}

/// Answers jobs until the connection ends.
pub fn work(port: u16, capabilities: &[&str]) {
    let mut peer = Peer::new(port);
    let register =
        json!({"id": "w1", "type": "test", "slots": 8, "protocol": 1, "capabilities": capabilities});
    peer.send(&format!("REGISTER:{register}"));
    thread::spawn(move || {
        let mut line = String::new();
        while peer.reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            if let Some((handle, data)) = line
                .trim_end()
                .strip_prefix("PROCESS_JOB:")
                .and_then(|rest| rest.split_once(':'))
            {
                let is_first = !handle.contains('.');
                let answer = match (outcome(data), data) {
                    (_, "second time") if is_first => format!("JOB_FAILED:{handle}:not yet"),
                    ((outcome, why), _) if outcome == "failed" => format!("JOB_FAILED:{handle}:{why}"),
                    ((_, result), _) => format!("JOB_COMPLETE:{handle}:{result}"),
                };
                // The coordinator may be gone.
                let _ = peer.writer.write_all(format!("{answer}\n").as_bytes());
            }
            line.clear();
        }
    });
}

/// A client in the middle of a history.
pub struct Client {
    port: u16,
    peer: Peer,
    pub told: Told,
    /// Whether the history ends where jobs are refused, and does not wait until they are taken again.
    gives_up: bool,
    /// The job that no worker can do yet.
    waits: Option<u64>,
}

impl Client {
    pub fn new(port: u16, gives_up: bool) -> Client {
        Client {
            port,
            peer: Peer::new(port),
            told: Told::default(),
            gives_up,
            waits: None,
        }
    }

    /// Goes through the history, which has all that becomes of jobs: ends of each kind, a failed attempt, a key that comes twice, a job that
    /// is cancelled and queued again, one with much data, and several at once.
    ///
    /// # Errors
    /// If jobs are refused, and are to be taken as refused.
    pub fn run(&mut self) -> Result<(), Refused> {
        for number in 0..FIRST {
            self.submit(&json!({"data": format!("first {number}")}))?;
            self.wait_for_ends()?;
        }
        let together: Vec<Value> = (0..3)
            .map(|number| json!({"data": format!("together {number}")}))
            .collect();
        self.submit_all(&together)?;
        let once = self.submit(&json!({"data": "with a key", "key": "k1"}))?;
        assert_eq!(self.submit(&json!({"data": "with a key", "key": "k1"}))?, once);
        let waits = self.submit(&json!({"data": "goes on later", "requires": [NOWHERE]}))?;
        self.waits = Some(waits);
        self.told.undecided = Some(waits);
        self.ask(&format!("CANCEL:JOB-{waits}"), "CANCEL:")?;
        self.read_until(|told, _| told.ended.contains_key(&waits))?;
        self.ask(&format!("RETRY:JOB-{waits}"), "RETRY:")?;
        self.told.ended.remove(&waits);
        self.told.undecided = None;
        self.submit(&json!({"data": "second time", "retries": 1}))?;
        self.submit(&json!({"data": "hopeless", "retries": 0}))?;
        self.submit(&json!({"data": "x".repeat(20_000)}))?;
        self.wait_for_ends()
    }

    fn submit(&mut self, submission: &Value) -> Result<u64, Refused> {
        let jobs = self.submit_all(std::slice::from_ref(submission))?;
        Ok(jobs[0])
    }

    /// Submits jobs without waiting in between, those that are refused again. Returns the number of the one that was accepted last.
    fn submit_all(&mut self, submissions: &[Value]) -> Result<Vec<u64>, Refused> {
        let mut left: Vec<&Value> = submissions.iter().collect();
        let mut jobs = Vec::new();
        while !left.is_empty() {
            for submission in &left {
                self.peer.send(&format!("SUBMIT:{submission}"));
            }
            let mut refused = Vec::new();
            for submission in left {
                let answer = self.answer("JOB_ACCEPTED:JOB-")?;
                let Some(job) = answer.strip_prefix("JOB_ACCEPTED:JOB-") else {
                    refused.push(submission);
                    thread::sleep(Duration::from_millis(20));
                    continue;
                };
                let (job, data) = (job.parse().unwrap(), submission["data"].as_str().unwrap());
                let before = self.told.accepted.insert(job, data.to_owned());
                assert!(
                    before.is_none_or(|before| before == data),
                    "JOB-{job} is two jobs"
                );
                if let Some(key) = submission["key"].as_str() {
                    let before = self.told.keys.insert(key.to_owned(), job);
                    assert!(before.is_none_or(|before| before == job), "{key} is two jobs");
                }
                jobs.push(job);
            }
            left = refused;
        }
        Ok(jobs)
    }

    fn ask(&mut self, line: &str, answer: &str) -> Result<(), Refused> {
        self.peer.send(line);
        self.answer(answer).map(drop)
    }

    /// Reads until there is an answer that begins so, or that says that jobs cannot be kept.
    fn answer(&mut self, begins: &str) -> Result<String, Refused> {
        let answered = |_: &Told, line: Option<&str>| {
            line.is_some_and(|line| line.starts_with(begins) || line.starts_with("ERROR:overloaded:"))
        };
        let line = self.read_until(answered)?.unwrap();
        if self.gives_up
            && let Some(reason) = line.strip_prefix("ERROR:overloaded:")
        {
            return Err(Refused(reason.to_owned()));
        }
        Ok(line)
    }

    /// Waits until all have ended that can.
    fn wait_for_ends(&mut self) -> Result<(), Refused> {
        let waits = self.waits;
        let all = |told: &Told, _: Option<&str>| {
            let can = |job: &&u64| Some(**job) != waits;
            told.accepted
                .keys()
                .filter(can)
                .all(|job| told.ended.contains_key(job))
        };
        self.read_until(all).map(drop)
    }

    /// Takes in lines until it is so. Returns the last of them, if there was one.
    fn read_until(
        &mut self,
        mut is_so: impl FnMut(&Told, Option<&str>) -> bool,
    ) -> Result<Option<String>, Refused> {
        let began = Instant::now();
        let mut last = None;
        while !is_so(&self.told, last.as_deref()) {
            assert!(began.elapsed() < PATIENCE, "no answer; so far: {:?}", self.told);
            last = self.peer.line(WHILE);
            match &last {
                Some(line) => self.take_result(line),
                None if self.gives_up => self.see_whether_jobs_are_taken()?,
                None => {}
            }
        }
        Ok(last)
    }

    fn take_result(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("JOB_RESULT:JOB-") else {
            return;
        };
        let mut parts = rest.splitn(3, ':');
        let mut part = || parts.next().unwrap().to_owned();
        let (job, end) = (part().parse().unwrap(), (part(), part()));
        let before = self.told.ended.insert(job, end.clone());
        assert!(
            before.is_none_or(|before| before == end),
            "{line}, and before another end"
        );
    }

    /// What a client is told that comes anew.
    fn see_whether_jobs_are_taken(&mut self) -> Result<(), Refused> {
        let mut peer = Peer::new(self.port);
        peer.send("SUBMIT_JOB:is it taken");
        let Some(line) = peer.line(WHILE) else {
            return Ok(());
        };
        if let Some(job) = line.strip_prefix("JOB_ACCEPTED:JOB-") {
            // Its result is told to a connection that is gone.
            let job = job.parse().unwrap();
            self.told.accepted.insert(job, "is it taken".to_owned());
            self.peer.send(&format!("WAIT:JOB-{job}"));
            return Ok(());
        }
        match line.strip_prefix("ERROR:overloaded:") {
            Some(reason) => Err(Refused(reason.to_owned())),
            None => panic!("{line}"),
        }
    }
}

/// Sees that a coordinator has all that a client was told, and ends it as it should.
pub fn verify(port: u16, told: &Told) {
    work(port, &[NOWHERE]);
    let mut client = Client::new(port, false);
    for (&job, data) in &told.accepted {
        client.told.accepted.insert(job, data.clone());
        client.peer.send(&format!("WAIT:JOB-{job}"));
    }
    client.wait_for_ends().unwrap();
    for (&job, data) in &told.accepted {
        let end = &client.told.ended[&job];
        let expected = told.ended.get(&job).cloned().unwrap_or_else(|| outcome(data));
        let is_right = *end == expected
            || told.undecided == Some(job) && (end.0 == "cancelled" || *end == outcome(data));
        assert!(
            is_right,
            "JOB-{job}, {data:.20}: {end:?}; the client was told {told:?}"
        );
    }
    for (key, &job) in &told.keys {
        let data = &told.accepted[&job];
        assert_eq!(
            client.submit(&json!({"data": data, "key": key})).unwrap(),
            job,
            "{key}"
        );
    }
}
