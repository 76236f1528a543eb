//! The runner: builds what it needs, runs every server under every scenario, writes the report.

fn main() -> std::process::ExitCode {
    fdtask_bench::runner::main()
}
