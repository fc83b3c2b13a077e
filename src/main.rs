//! `bindery`: parse, run, exit code.

fn main() -> std::process::ExitCode {
    bindery::cli::main()
}
