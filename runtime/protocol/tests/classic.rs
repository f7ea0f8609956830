//! The same lines to the classic coordinator, under a real tclsh: what it accepts and refuses, with which code and text, and
//! what it makes of a submission, is what this crate does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use torhost_protocol::{Code, Format, JobId, Request, parse_request, write};

/// Runs a script in tclsh, with the classic coordinator loaded; its output.
fn classic(script: &str) -> String {
    let coordinator = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/classic/coordinator.tor"
    );
    let script = format!(
        "source {{{coordinator}}}\n\
         proc h {{hex}} {{encoding convertfrom utf-8 [binary format H* $hex]}}\n\
         proc x {{text}} {{binary encode hex [encoding convertto utf-8 $text]}}\n{script}"
    );
    let mut tclsh = Command::new("tclsh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tclsh runs");
    let mut stdin = tclsh.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let output = tclsh.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

fn hex(text: &[u8]) -> String {
    text.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// What a coordinator with worker `w` on connection 1, a client on connection 2, and `JOB-1` running on `w`, makes of a line.
const ASK: &str = r#"
proc Coordinator::log args {}
proc Coordinator::send args {}
set Coordinator::routes {}
proc ask {c line} {
    foreach timer [after info] {after cancel $timer}
    foreach name {jobs keys later finished entry workers workerOf format channel} {
        array unset Coordinator::$name
        array set Coordinator::$name {}
    }
    foreach name {queues ring watching unflushed} {set Coordinator::$name {}}
    foreach name {lastJob firstFinished lastFinished turn} {set Coordinator::$name 0}
    foreach state [array names Coordinator::count] {set Coordinator::count($state) 0}
    array set Coordinator::channel {1 a 2 b}
    array set Coordinator::format {1 json 2 json}
    Coordinator::receive 1 {REGISTER:{"id":"w","slots":9,"protocol":1}}
    Coordinator::receive 2 SUBMIT_JOB:first
    set code ok
    set text ""
    if {[string index $line end] eq "\r"} {
        set line [string range $line 0 end-1]
    }
    if {[catch {Coordinator::receive $c $line} text options]} {
        set code [lindex [dict get $options -errorcode] 1]
        if {[lindex [dict get $options -errorcode] 0] ne "REQUEST"} {
            set code internal
        }
    } elseif {$Coordinator::lastJob == 2} {
        set job $Coordinator::jobs(JOB-2)
        lassign [dict get $job queue] requires priority
        set text [list [dict get $job data] [join [lsearch -all -inline -not -exact $requires multiline] ,] $priority [dict get $job limit] \
            [dict get $job timeout] [expr {[dict get $job state] eq "delayed"}] [dict get $job key]]
        set code job
        set text [join [lmap item $text {x $item}] ,]
        puts "$code $text"
        return
    } else {
        set text ""
    }
    puts "$code [x $text]"
}
"#;

/// Whether the classic coordinator takes this line although it means nothing there: what follows a verb that nothing follows, a
/// name of no job, a capability without a name.
fn is_taken_there_only(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    let (verb, rest) = text.split_once(':').unwrap_or((&text, ""));
    match verb {
        "" => !text.is_empty(),
        "PING" | "STATUS" | "WORKERS" | "HELP" | "DRAIN" => !rest.is_empty(),
        "WATCH" => !["", "on", "off"].contains(&rest),
        "JOB" | "WAIT" | "CANCEL" => rest.is_empty(),
        "SUBMIT" => {
            parse_request(line).is_err_and(|refusal| refusal.text.starts_with("requires has an empty word"))
        }
        _ => false,
    }
}

/// Whether the classic coordinator knows what this line is about, as far as one can tell from its words.
fn is_classic(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    let new_verbs = [
        "RETRY",
        "PURGE",
        "PAUSE",
        "RESUME",
        "SCHEDULES",
        "AUTH",
        "JOB_FAILED:{",
    ];
    let new_fields = ["deadline", "affinity", "weight"];
    // A list of jobs has an `after`, too.
    let new_options = ["\"after\"", "\"at\""];
    if text.starts_with("SUBMIT") && new_options.iter().any(|option| text.contains(option)) {
        return false;
    }
    !new_verbs.iter().any(|verb| text.starts_with(verb))
        && !new_fields.iter().any(|field| text.contains(field))
}

#[test]
fn the_classic_coordinator_accepts_and_refuses_the_same() {
    let lines = common::requests()
        .into_iter()
        .map(|line| line.as_bytes().to_vec());
    let variations = common::variations(common::requests(), 1)
        // Tcl reads other bytes as Latin-1, and has no characters beyond the BMP.
        .filter(|line| line.is_ascii())
        .take(2000);
    let lines: Vec<_> = lines
        .chain(variations)
        .filter(|line| is_classic(line) && !is_taken_there_only(line))
        .collect();
    let differences = differences(&lines);
    assert!(differences.is_empty(), "{differences}");
}

/// What the classic coordinator answers otherwise.
fn differences(lines: &[Vec<u8>]) -> String {
    let mut script = ASK.to_owned();
    for line in lines {
        let line = hex(line);
        script.push_str(&format!("ask 1 [h {{{line}}}]; ask 2 [h {{{line}}}]\n"));
    }
    let answers = classic(&script);
    let mut answers = answers.lines();
    let mut differences = String::new();
    for line in lines {
        for registered in [true, false] {
            let answer = answers.next().expect("an answer for every line");
            let theirs = their_view(answer);
            let ours = our_view(line, registered, &theirs);
            if ours != theirs {
                differences += &format!(
                    "{} (registered: {registered})\n  ours:   {ours:?}\n  theirs: {theirs:?}\n",
                    String::from_utf8_lossy(line)
                );
            }
        }
    }
    differences
}

/// The code and what comes with it.
fn their_view(answer: &str) -> (String, String) {
    let (code, text) = answer.split_once(' ').unwrap();
    let text = match code {
        "job" => text.to_owned(),
        // The words of another JSON reader, and what belongs to no request.
        "bad-json" => String::new(),
        _ => common_words(&String::from_utf8(unhex(text)).unwrap()),
    };
    (code.to_owned(), text)
}

/// What is said of an unknown option or state: there are more of them than the classic coordinator knows.
fn common_words(text: &str) -> String {
    match text
        .split_once(": expected data,")
        .or(text.split_once(" one of cancelled,"))
    {
        Some((text, _)) => text.to_owned(),
        None => text.to_owned(),
    }
}

fn our_view(line: &[u8], registered: bool, theirs: &(String, String)) -> (String, String) {
    let refusal = match parse_request(line) {
        Err(refusal) => refusal,
        Ok(Request::Misnamed(answer)) => answer.refusal(registered, |job| job == JobId(1)),
        Ok(Request::Submit(job)) => {
            let options = job.options;
            let milliseconds = |time: Option<Duration>| time.unwrap_or_default().as_millis();
            let requires = options.requires.unwrap_or_default();
            let fields = [
                String::from_utf8_lossy(&job.data).into_owned(),
                requires.join(","),
                options.priority.unwrap_or(0).to_string(),
                options.retries.map_or(3, |retries| retries + 1).to_string(),
                milliseconds(options.timeout).to_string(),
                u8::from(milliseconds(options.delay) > 0).to_string(),
                options.key.unwrap_or_default(),
            ];
            return (
                "job".to_owned(),
                fields.map(|field| hex(field.as_bytes())).join(","),
            );
        }
        Ok(request) => {
            // What only a coordinator can know.
            let may = match request {
                Request::Job(_) | Request::Wait(_) | Request::Cancel(_) => vec!["unknown-job"],
                Request::Complete { .. } | Request::Failed { .. } => {
                    vec!["unknown-job", "stale-attempt", "not-a-worker"]
                }
                Request::Progress { .. } => vec!["stale-attempt"],
                Request::Heartbeat(_) | Request::Drain if !registered => vec!["not-a-worker"],
                // A connection is one worker's.
                Request::Register(_) if registered => vec!["bad-request"],
                _ => vec![],
            };
            if may.contains(&theirs.0.as_str()) {
                return theirs.clone();
            }
            return ("ok".to_owned(), String::new());
        }
    };
    // A percentage is read before it is known whether the attempt counts.
    if refusal.text.contains("JOB_PROGRESS") && theirs.0 == "stale-attempt" {
        return theirs.clone();
    }
    let text = if refusal.code == Code::BadJson {
        String::new()
    } else {
        common_words(&refusal.text)
    };
    (refusal.code.as_str().to_owned(), text)
}

/// Values that are hard to quote.
fn values() -> Vec<Value> {
    let parts = [
        "", " ", "a", "ç", "😀", "{", "}", "[", "]", "$", "\"", "\\", ";", "#", "\n", "\r", "\t", "\x0b",
        "\x0c", "\0", "\u{1}", "\x7f",
    ];
    let mut texts: Vec<String> = vec!["a b\n{\\ \"$x [y] 😀".into(), "-".into(), "\u{feff}".into()];
    for a in parts {
        for b in parts {
            for c in ["", "x", "}", "\\", "]", "\n", "#"] {
                texts.push(format!("{a}{b}{c}"));
            }
        }
    }
    let mut values: Vec<Value> = texts
        .iter()
        .map(|text| json!({"data": text, text: "n"}))
        .collect();
    values.push(json!(texts));
    values.push(json!([texts, [], {}, [[]], [[""]], {"": {}}, [{"a": [1, -2, 3.5, 1e30]}]]));
    values.push(json!({}));
    values.push(json!([]));
    values.push(json!({"jobs": [{"id": "JOB-1", "requires": ["a", "#b", "c\nd"], "data": "\n"}, {"id": "JOB-2"}], "next": ""}));
    values
}

/// The classic coordinator's notation for a value.
fn typed(value: &Value) -> String {
    match value {
        Value::String(text) => format!("[list s [h {{{}}}]]", hex(text.as_bytes())),
        Value::Array(items) => {
            format!(
                "[list a [list {}]]",
                items.iter().map(typed).collect::<Vec<_>>().join(" ")
            )
        }
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!("[h {{{}}}] {}", hex(name.as_bytes()), typed(value))
            };
            format!(
                "[list o [list {}]]",
                fields.iter().map(field).collect::<Vec<_>>().join(" ")
            )
        }
        other => format!("[list n {other}]"),
    }
}

/// Tests in Tcl that `$name` is this value, by means of `dict get` and `lindex` alone.
fn reads_as(value: &Value, path: &str, out: &mut String) {
    match value {
        Value::Array(items) => {
            *out += &format!("is [llength {path}] {}\n", items.len());
            for (n, item) in items.iter().enumerate() {
                reads_as(item, &format!("[lindex {path} {n}]"), out);
            }
        }
        Value::Object(fields) => {
            *out += &format!("is [dict size {path}] {}\n", fields.len());
            for (name, item) in fields {
                reads_as(
                    item,
                    &format!("[dict get {path} [h {{{}}}]]", hex(name.as_bytes())),
                    out,
                );
            }
        }
        Value::String(text) => *out += &format!("is {path} [h {{{}}}]\n", hex(text.as_bytes())),
        other => *out += &format!("is {path} {other}\n"),
    }
}

#[test]
fn tcl_reads_answers_exactly() {
    let mut script = "proc is {a b} {if {$a ne $b} {puts \"[list $a] is not [list $b]\"}}\n".to_owned();
    let values = values();
    for value in &values {
        let mut out = Vec::new();
        write::answer(&mut out, "A", Format::Tcl, value);
        let line = out.strip_prefix(b"A:").unwrap().strip_suffix(b"\n").unwrap();
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "{value}");
        script += &format!("set line [h {{{}}}]\n", hex(line));
        reads_as(value, "$line", &mut script);
    }
    assert_eq!(classic(&script), "");
}

#[test]
fn answers_are_those_of_the_classic_coordinator_byte_for_byte() {
    let values = values();
    let mut script = String::new();
    for value in &values {
        for format in [Format::Json, Format::Tcl] {
            script += &format!("puts [x [Coordinator::render {format} {}]]\n", typed(value));
        }
    }
    let theirs = classic(&script);
    let mut theirs = theirs.lines();
    for value in &values {
        for format in [Format::Json, Format::Tcl] {
            let mut out = Vec::new();
            write::answer(&mut out, "", format, value);
            let theirs = unhex(theirs.next().expect("one for every value"));
            let ours = String::from_utf8(out[1..out.len() - 1].to_vec()).unwrap();
            assert_eq!(ours, String::from_utf8(theirs).unwrap(), "{format}: {value}");
        }
    }
}
