//! The `latchkey` program.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Allocator that returns memory to the system ten seconds after a peak, from background threads. The C library's
/// allocator kept the memory that 1,000 clients or 15,000 idle connections had used: CONTRIBUTING.md, "Dependencies".
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    latchkey::cli::main()
}
