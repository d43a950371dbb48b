//! What do `/proc/net/tcp`, `udp` and their sisters show? The sockets of the sandbox, as the host names them.

use std::sync::{Arc, Weak};

use linux_abi::net::{family, option as so};
use platform::host::socket as host;

use super::InetSocket;
use crate::net::{Kind, Namespace, lock};

/// Headings of the columns, after the addresses' ones.
const STREAM_HEAD: &str = "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const DATAGRAM_HEAD: &str =
    "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
/// Lines of TCP and UDP over IPv4 are filled up with blanks. LINUX: `TMPSZ`, `udp4_seq_show`.
const STREAM_WIDTH: usize = 149;
const DATAGRAM_WIDTH: usize = 127;
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the files are")]
pub enum Table {
    Tcp,
    Tcp6,
    Udp,
    Udp6,
    Raw,
    Raw6,
    UdpLite,
    UdpLite6,
}

impl Table {
    fn holds(self, socket: &InetSocket) -> bool {
        let family = if self.is_v6() { family::AF_INET6 } else { family::AF_INET };
        let kind = match self {
            Self::Tcp | Self::Tcp6 => Kind::Stream,
            Self::Udp | Self::Udp6 => Kind::Datagram,
            // There are no such sockets.
            Self::Raw | Self::Raw6 | Self::UdpLite | Self::UdpLite6 => return false,
        };
        socket.family == family && socket.kind == kind
    }

    fn is_v6(self) -> bool {
        matches!(self, Self::Tcp6 | Self::Udp6 | Self::Raw6 | Self::UdpLite6)
    }

    fn head(self) -> String {
        let addresses = if self.is_v6() {
            "  sl  local_address                         remote_address                        "
        } else {
            "  sl  local_address rem_address   "
        };
        // LINUX: udp4_seq_show's lines have one column more.
        let wide = format!(" {addresses}{DATAGRAM_HEAD}");
        match self {
            Self::Tcp => format!("{:<STREAM_WIDTH$}\n", format!("{addresses}{STREAM_HEAD}")),
            Self::Tcp6 => format!("{addresses}{STREAM_HEAD}\n"),
            Self::Udp | Self::UdpLite => format!("{wide:<DATAGRAM_WIDTH$}\n"),
            _ => format!("{addresses}{DATAGRAM_HEAD}\n"),
        }
    }
}

/// An address and port, as hexadecimal words in the host's order.
fn place(address: &[u8], family: u16) -> String {
    let (at, len) = if family == family::AF_INET { (4, 4) } else { (8, 16) };
    let bytes = address.get(at..at + len).map_or_else(|| vec![0; len], <[u8]>::to_vec);
    let words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let port = address.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    format!("{}:{port:04X}", words.map(|word| format!("{word:08X}")).collect::<String>())
}

impl InetSocket {
    fn line(&self, at: usize) -> Option<String> {
        let local = host::local_name(&self.fd).ok()?;
        let peer = host::peer_name(&self.fd).ok();
        let state = if self.kind == Kind::Stream {
            host::get_option(&self.fd, so::SOL_TCP, so::TCP_INFO, 1).ok()?.first().copied()?
        } else if peer.is_some() {
            TCP_ESTABLISHED
        } else {
            TCP_CLOSE
        };
        // LINUX: a socket that is neither bound nor connected is in no table.
        let is_bound = local.get(2..4).is_some_and(|port| port != [0, 0]);
        let (local, peer) = (place(&local, self.family), place(&peer.unwrap_or_default(), self.family));
        let (uid, node) = self.common.node();
        let unread = if state == TCP_LISTEN { 0 } else { host::unread(&self.fd).unwrap_or(0) };
        let unsent = if state == TCP_LISTEN { 0 } else { host::unsent(&self.fd).unwrap_or(0) };
        let queues = format!("{unsent:08X}:{unread:08X} 00:00000000 00000000 {uid:5}        0 {node}");
        is_bound.then(|| match (self.kind, self.family) {
            (Kind::Stream, _) => {
                let rest = if state == TCP_LISTEN { "100 0 0 10 0" } else { "20 4 30 10 -1" };
                let line = format!("{at:4}: {local} {peer} {state:02X} {queues} 1 0000000000000000 {rest}");
                let width = if self.family == family::AF_INET { STREAM_WIDTH } else { 0 };
                format!("{line:<width$}\n")
            }
            _ => {
                let line = format!("{at:5}: {local} {peer} {state:02X} {queues} 2 0000000000000000 0");
                let width = if self.family == family::AF_INET { DATAGRAM_WIDTH } else { 0 };
                format!("{line:<width$}\n")
            }
        })
    }
}

impl Namespace {
    fn inet_sockets(&self) -> Vec<Arc<InetSocket>> {
        lock(&self.inet_sockets).iter().filter_map(Weak::upgrade).collect()
    }

    /// `/proc/net/tcp` and its sisters.
    #[must_use]
    pub fn proc_inet(&self, table: Table) -> String {
        let sockets = self.inet_sockets();
        let lines = sockets.iter().filter(|socket| table.holds(socket));
        let mut text = table.head();
        text.extend(lines.enumerate().filter_map(|(at, socket)| socket.line(at)));
        text
    }

    /// `/proc/net/sockstat`.
    #[must_use]
    pub fn proc_sockstat(&self) -> String {
        let sockets = self.inet_sockets();
        let count = |table: Table| sockets.iter().filter(|socket| table.holds(socket)).count();
        let tcp = count(Table::Tcp) + count(Table::Tcp6);
        let udp = count(Table::Udp);
        let all = self.socket_count();
        format!(
            "sockets: used {all}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\n\
             UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n"
        )
    }
}

impl Namespace {
    /// `/proc/net/sockstat6`.
    #[must_use]
    pub fn proc_sockstat6(&self) -> String {
        let sockets = self.inet_sockets();
        let count = |table: Table| sockets.iter().filter(|socket| table.holds(socket)).count();
        let (tcp, udp) = (count(Table::Tcp6), count(Table::Udp6));
        format!(
            "TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::net::new_socket;
    use crate::testing::task;

    use super::*;

    #[test]
    fn addresses_are_words_in_host_order() {
        assert_eq!(place(&[2, 0, 0x1f, 0x90, 127, 0, 0, 1], family::AF_INET), "0100007F:1F90");
        assert_eq!(place(&[], family::AF_INET6), "00000000000000000000000000000000:0000");
    }

    #[test]
    fn a_listening_socket_is_in_its_table() {
        let task = task();
        let ops = new_socket(&task, 2, 1, 0).unwrap();
        let socket = ops.as_socket().unwrap();
        let mut address = [0; 16];
        address[0] = 2;
        address[4..8].copy_from_slice(&[127, 0, 0, 1]);
        assert_eq!(task.kernel.net.proc_inet(Table::Tcp).lines().count(), 1);
        socket.bind(&task, &address).unwrap();
        socket.listen(&task, 1).unwrap();
        let text = task.kernel.net.proc_inet(Table::Tcp);
        assert!(text.contains(" 0100007F:") && text.contains(" 00000000:0000 0A "), "{text}");
        assert_eq!(task.kernel.net.proc_inet(Table::Tcp6).lines().count(), 1);
    }
}
