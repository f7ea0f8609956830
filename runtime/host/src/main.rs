//! The `torhost` program.

fn main() -> std::process::ExitCode {
    torhost::main()
}
