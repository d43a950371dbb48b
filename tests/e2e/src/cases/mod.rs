//! The cases: what each is called, whether it can be asked of any runtime, and in which order they run.
//!
//! Key type: [`Case`]. A case makes its own containers and removes them; it never relies on another case.

use anyhow::Result;

use crate::world::World;

pub mod bad;
pub mod basics;
pub mod cli;
pub mod config;
pub mod crash;
pub mod cri;
pub mod debian;
pub mod elsewhere;
pub mod life;
pub mod limits;
pub mod posture;
pub mod soak;
pub mod streams;

/// What tries a behaviour.
pub type Trial = std::rc::Rc<dyn Fn(&World) -> Result<()>>;

/// A named behaviour.
#[derive(Clone)]
pub struct Case {
    /// What should be true.
    pub name: String,
    /// Part of `make demo`.
    pub demo: bool,
    /// Speaks about our own processes, so that other runtimes cannot be asked.
    pub needs_ours: bool,
    /// Tries it.
    pub run: Trial,
}

impl Case {
    /// A case for any runtime.
    #[must_use]
    pub fn new(name: &str, run: fn(&World) -> Result<()>) -> Self {
        Self { name: name.to_owned(), demo: false, needs_ours: false, run: std::rc::Rc::new(run) }
    }

    /// The same, shown in the demo.
    #[must_use]
    pub fn demo(name: &str, run: fn(&World) -> Result<()>) -> Self {
        Self { demo: true, ..Self::new(name, run) }
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// All cases.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        basics::cases(),
        cli::cases(),
        debian::cases(),
        life::cases(),
        bad::cases(),
        config::cases(),
        soak::cases(),
        streams::cases(),
        cri::cases(),
        limits::cases(),
        crash::cases(),
        posture::cases(),
        elsewhere::cases(),
    ]
    .concat()
}
