//! `/proc/PID/net`: the sandbox's one network as text. `/proc/net` is a link to the reader's.

use std::sync::Arc;

use super::super::pseudo::{Attributes, Directory, Kind, Name, Text, number};
use crate::Errno;
use crate::net::Namespace;
use crate::net::inet::table::Table;
use crate::task::Task;
use crate::vfs::Inode;

/// How a file of text is made.
type Maker = fn(&Namespace) -> String;

/// In alphabetical order.
const FILES: &[(&str, Maker)] = &[
    ("arp", |_| "IP address       HW type     Flags       HW address            Mask     Device\n".into()),
    ("dev", |net| net.interfaces.proc_dev()),
    ("if_inet6", |net| net.interfaces.proc_if_inet6()),
    ("igmp", |_| "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n".into()),
    ("igmp6", |_| String::new()),
    ("ipv6_route", |_| String::new()),
    ("netlink", |_| {
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n".into()
    }),
    ("netstat", |_| counters(NETSTAT)),
    ("packet", |_| "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n".into()),
    ("protocols", |_| {
        "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh gp em\n".into()
    }),
    ("ptype", |_| "Type Device      Function\n0800          ip_rcv\n86dd          ipv6_rcv\n".into()),
    ("raw", |net| net.proc_inet(Table::Raw)),
    ("raw6", |net| net.proc_inet(Table::Raw6)),
    ("route", |net| net.interfaces.proc_route()),
    ("snmp", |_| counters(SNMP)),
    ("snmp6", |_| snmp6()),
    ("sockstat", |net| net.proc_sockstat()),
    ("sockstat6", |net| net.proc_sockstat6()),
    ("tcp", |net| net.proc_inet(Table::Tcp)),
    ("tcp6", |net| net.proc_inet(Table::Tcp6)),
    ("udp", |net| net.proc_inet(Table::Udp)),
    ("udp6", |net| net.proc_inet(Table::Udp6)),
    ("udplite", |net| net.proc_inet(Table::UdpLite)),
    ("udplite6", |net| net.proc_inet(Table::UdpLite6)),
    ("unix", |net| net.proc_unix()),
];

/// Counters of protocols, which the host keeps and the sentry does not see: names, and zeros.
const SNMP: &[&str] = &[
    "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates OutTransmits",
    "Icmp: InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps OutTimestampReps OutAddrMasks OutAddrMaskReps",
    "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors",
    "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors",
    "UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors",
];
const NETSTAT: &[&str] = &[
    "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts TW ListenOverflows ListenDrops TCPTimeouts TCPLostRetransmit",
    "IpExt: InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets",
];

fn counters(lines: &[&str]) -> String {
    let pair = |line: &&str| {
        let (name, fields) = line.split_once(':').unwrap_or((line, ""));
        format!("{line}\n{name}:{}\n", " 0".repeat(fields.split_whitespace().count()))
    };
    lines.iter().map(pair).collect()
}

fn snmp6() -> String {
    const NAMES: [&str; 6] = [
        "Ip6InReceives",
        "Ip6OutRequests",
        "Ip6InOctets",
        "Ip6OutOctets",
        "Udp6InDatagrams",
        "Udp6OutDatagrams",
    ];
    NAMES.iter().map(|name| format!("{name:<32}\t0\n")).collect()
}

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
