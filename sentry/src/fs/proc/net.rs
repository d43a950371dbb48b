//! `/proc/PID/net`: the sandbox's one network as text. `/proc/net` is a link to the reader's.

use std::sync::Arc;

use super::super::pseudo::{Attributes, Directory, Kind, Name, Text, number};
use crate::Errno;
use crate::net::Namespace;
use crate::net::inet::table::{self, Table};
use crate::task::Task;
use crate::vfs::Inode;

/// How a file of text is made.
type Maker = fn(&Namespace) -> String;

/// In alphabetical order.
const FILES: &[(&str, Maker)] = &[
    ("arp", |_| "IP address       HW type     Flags       HW address            Mask     Device\n".into()),
    ("dev", |net| net.interfaces.proc_dev()),
    ("if_inet6", |net| net.interfaces.proc_if_inet6()),
    ("ipv6_route", |_| String::new()),
    ("netlink", |_| {
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n".into()
    }),
    ("packet", |_| "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n".into()),
    ("protocols", |_| {
        "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh gp em\n".into()
    }),
    ("raw", |_| table::RAW_HEAD.into()),
    ("raw6", |_| table::RAW_HEAD.into()),
    ("route", |net| net.interfaces.proc_route()),
    ("sockstat", |net| net.proc_sockstat()),
    ("tcp", |net| net.proc_inet(Table::Tcp)),
    ("tcp6", |net| net.proc_inet(Table::Tcp6)),
    ("udp", |net| net.proc_inet(Table::Udp)),
    ("udp6", |net| net.proc_inet(Table::Udp6)),
    ("unix", |net| net.proc_unix()),
];

/// The directory.
pub(super) struct NetDirectory {
    pub(super) dev: u64,
}

impl Directory for NetDirectory {
    fn child(&self, _: &Arc<Task>, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let (_, make) = FILES.iter().find(|(known, _)| known.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let attributes = Attributes::new(self.dev, 0o444);
        Ok(Text::new(attributes, move |task: &Arc<Task>| Ok(make(&task.kernel.net).into_bytes())))
    }

    fn names(&self, _: &Arc<Task>) -> Result<Vec<Name>, Errno> {
        Ok(number(FILES.iter().map(|(name, _)| (name.as_bytes().to_vec(), Kind::File))))
    }
}
