//! The hooks at which packets meet the pipeline.
//!
//! ```text
//!  endpoint             node's network namespace
//!  ┌───────┐   ┌─────┐  from_container   to_host       ┌─────────────┐
//!  │ eth0  ├───┤ lxc ├──►          ─────────────────►  │ cilium_host │──► stack
//!  │       │   │     │◄── to_container   from_host     │             │
//!  └───────┘   └─────┘             ◄─────────────────  └─────────────┘◄── stack
//! ```

/// Names the hook that a packet is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Ingress of an `lxc` link: what an endpoint sends.
    FromContainer = 1,
    /// Egress of an `lxc` link: what reaches an endpoint through the node's stack.
    ToContainer = 2,
    /// Egress of `cilium_host`: what the node's stack sends to endpoints.
    FromHost = 3,
    /// Ingress of `cilium_host`: what endpoints send to the node's stack.
    ToHost = 4,
}

impl Hook {
    /// Lists all hooks.
    pub const ALL: [Self; 4] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromHost,
        Self::ToHost,
    ];

    /// Tells whether packets come here from another hook, at which they were entered into their
    /// flows.
    #[inline(always)]
    pub const fn only_watches(self) -> bool {
        matches!(self, Self::ToContainer | Self::ToHost)
    }

    /// Returns the hook with this number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::FromContainer),
            2 => Some(Self::ToContainer),
            3 => Some(Self::FromHost),
            4 => Some(Self::ToHost),
            _ => None,
        }
    }
}
