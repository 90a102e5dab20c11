//! The `latchkey` program.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Its threads in the background give memory back to the system ten seconds after a peak. The C library's
/// allocator kept what 1,000 clients or 15,000 idle connections had taken: CONTRIBUTING.md, "Dependencies".
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    latchkey::cli::main()
}
