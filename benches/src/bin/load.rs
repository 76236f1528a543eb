//! The load client. The runner starts it; by hand: `fdtask-load ADDR:PORT SERVER_PID WORKLOAD WARM_MS MEASURED_MS`.

fn main() -> std::process::ExitCode {
    fdtask_bench::load::main()
}
