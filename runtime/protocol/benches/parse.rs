//! How long a line takes to read and to write: `cargo bench -p torhost-protocol`.
use std::hint::black_box;
use std::time::Instant;
use torhost_protocol::{Handle, JobId, LineBuffer, State, parse_order, parse_request, write};

/// Nanoseconds for one, in the best of several runs, in which the machine was least disturbed.
fn nanoseconds(mut one: impl FnMut()) -> f64 {
    const TIMES: u32 = 200_000;
    let mut run = || {
        let started = Instant::now();
        (0..TIMES).for_each(|_| one());
        started.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    };
    (0..7).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn main() {
    println!("{:>50}  {:>8}", "read", "ns");
    for line in [
        "PING",
        "HEARTBEAT:1633046400",
        "SUBMIT_JOB:processar_relatorio_2024",
        "JOB_COMPLETE:JOB-123456:Processado_processar_relatorio_2024_por_worker1",
        "JOB_FAILED:JOB-123456.2:no such file",
        "JOB_PROGRESS:JOB-123456:25:a quarter",
        r#"SUBMIT:{"data":"processar_relatorio_2024"}"#,
        r#"SUBMIT:{"data":"a\nb","priority":5,"requires":["gpu"],"timeout":"10s","key":"k-1"}"#,
        r#"JOB_COMPLETE:{"handle":"JOB-123456","result":"a\nb"}"#,
    ] {
        let time = nanoseconds(|| drop(black_box(parse_request(black_box(line.as_bytes())))));
        println!("{:>50.50}  {time:>8.1}", line);
    }
    let line = b"PROCESS_JOB:JOB-123456:processar_relatorio_2024";
    let time = nanoseconds(|| drop(black_box(parse_order(black_box(line)))));
    println!("{:>50.50}  {time:>8.1}", String::from_utf8_lossy(line));

    println!("\n{:>50}  {:>8}", "write", "ns");
    let job = JobId(123_456);
    let handle = Handle::first(job);
    let data = b"processar_relatorio_2024";
    let mut out = Vec::new();
    let mut time = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        let time = nanoseconds(|| {
            out.clear();
            write(black_box(&mut out));
        });
        println!("{name:>50}  {time:>8.1}");
    };
    time("JOB_ACCEPTED", &|out| write::accepted(out, job));
    time("PROCESS_JOB", &|out| write::process_job(out, handle, data));
    time("JOB_COMPLETE", &|out| write::complete(out, handle, data));
    time("JOB_RESULT", &|out| {
        write::result(out, job, State::Completed, data)
    });

    let chunk = b"SUBMIT_JOB:processar_relatorio_2024\n".repeat(1000);
    let mut buffer = LineBuffer::new(1 << 20);
    let mut rest = &chunk[..];
    let time = nanoseconds(|| {
        if rest.is_empty() {
            rest = &chunk;
        }
        let mut lines = buffer.feed(rest);
        let _ = black_box(lines.next_line());
        rest = lines.rest();
    });
    println!("\n{:>50}  {time:>8.1}", "cutting a stream, ns a line");
}
