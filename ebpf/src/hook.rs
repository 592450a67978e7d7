//! The hooks at which packets meet the pipeline.
//!
//! ```text
//!  endpoint             node's network namespace                             world
//!  ┌───────┐   ┌─────┐  from_container   to_host       ┌─────────────┐
//!  │ eth0  ├───┤ lxc ├──►          ─────────────────►  │ cilium_host │──► stack
//!  │       │   │     │◄── to_container   from_host     │             │
//!  └───────┘   └─────┘             ◄─────────────────  └─────────────┘◄── stack
//!                 │ ▲   from_netdev                    ┌─────────────┐
//!                 │ └──────────────────────────────────┤   device    │◄──
//!                 └───────────────────────────────────►│             │──►
//!                       to_netdev                      └─────────────┘
//! ```

/// Names the hook that a packet is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Ingress of an `lxc` link: what an endpoint sends.
    FromContainer = 1,
    /// Egress of an `lxc` link: what reaches an endpoint through the node's stack, by way of
    /// `cilium_host` or, with a route for each endpoint, directly.
    ToContainer = 2,
    /// Egress of `cilium_host`: what the node's stack sends to endpoints.
    FromHost = 3,
    /// Ingress of `cilium_host`: what endpoints send to the node's stack.
    ToHost = 4,
    /// Ingress of a device: what comes from outside.
    FromNetdev = 5,
    /// Egress of a device: what leaves, whoever sends it.
    ToNetdev = 6,
}

impl Hook {
    /// Lists all hooks.
    pub const ALL: [Self; 6] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromHost,
        Self::ToHost,
        Self::FromNetdev,
        Self::ToNetdev,
    ];

    /// Tells whether packets come here from another hook, at which they were entered into their
    /// flows.
    #[inline(always)]
    pub const fn only_watches(self) -> bool {
        matches!(self, Self::ToContainer | Self::ToHost | Self::ToNetdev)
    }

    /// Tells whether the hook is one of a device: most packets there are not ours.
    #[inline(always)]
    pub const fn is_of_device(self) -> bool {
        matches!(self, Self::FromNetdev | Self::ToNetdev)
    }

    /// Returns the hook with this number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::FromContainer),
            2 => Some(Self::ToContainer),
            3 => Some(Self::FromHost),
            4 => Some(Self::ToHost),
            5 => Some(Self::FromNetdev),
            6 => Some(Self::ToNetdev),
            _ => None,
        }
    }
}
