// Families, types, options and flags of sockets.
#include "survey.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

SPACE(domains, "socket: families", NUMBERS, 0, 64, TOGETHER) {
    for (int type = 1; type < 4; type++) {
        int file = socket(value, type, 0);
        if (file != -1) {
            close(file);
            return true;
        }
    }
    return false;
}

SPACE(types, "socket: types", NUMBERS, 0, 16, TOGETHER) {
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    for (size_t at = 0; at < 4; at++) {
        int file = socket(families[at], value, 0);
        if (file != -1) {
            close(file);
            return true;
        }
    }
    return false;
}

SPACE(type_flags, "socket: flags", BITS, 4, 32, TOGETHER) {
    int file = socket(AF_UNIX, SOCK_STREAM | value, 0);
    close(file);
    return file != -1;
}

SPACE(protocols, "socket: protocols of AF_INET", NUMBERS, 0, 300, TOGETHER) {
    for (int type = 1; type < 4; type++) {
        int file = socket(AF_INET, type, value);
        if (file != -1) {
            close(file);
            return true;
        }
    }
    return false;
}

SPACE(netlink, "socket: protocols of AF_NETLINK", NUMBERS, 0, 64, TOGETHER) {
    int file = socket(AF_NETLINK, SOCK_RAW, value);
    close(file);
    return file != -1;
}

SPACE(accept4, "accept4: flags", BITS, 0, 32, EACH_ALONE) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (void *)&address, &len) != 0 || connect(client, (void *)&address, len) != 0)
        exit(2);
    return TAKES(accept4(listener, NULL, NULL, value));
}

SPACE(shutdown, "shutdown: how", NUMBERS, 0, 16, EACH_ALONE) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        exit(2);
    return TAKES(shutdown(pair[0], value));
}

// A socket for each kind of family and type that has options of its own.
struct kind {
    int family, type;
};
static const struct kind unix_kinds[] = {{AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM}, {AF_UNIX, SOCK_SEQPACKET}};
static const struct kind inet_kinds[] = {
    {AF_INET, SOCK_STREAM}, {AF_INET, SOCK_DGRAM}, {AF_INET6, SOCK_STREAM}, {AF_INET6, SOCK_DGRAM}};
static const struct kind netlink_kinds[] = {{AF_NETLINK, SOCK_RAW}};

// An option is unknown when every value of every length is answered so.
static bool is_unknown(void) { return errno == ENOPROTOOPT || errno == EOPNOTSUPP || errno == ENOSYS; }

static bool sets(const struct kind *kinds, size_t count, int level, int name) {
    static char zeros[256];
    int numbers[64] = {1};
    struct {
        struct in_addr group, interface;
    } membership = {{htonl(0xe0000101)}, {htonl(INADDR_LOOPBACK)}};
    bool is_known = false;
    for (size_t at = 0; at < count; at++) {
        int file = socket(kinds[at].family, kinds[at].type, 0);
        const struct {
            void *value;
            socklen_t len;
        } tries[] = {{zeros, 4}, {numbers, 4}, {zeros, 16}, {&membership, 8}, {zeros, 20}, {"cubic", 5}};
        for (size_t try = 0; try < sizeof tries / sizeof tries[0]; try++) {
            errno = 0;
            is_known |= TAKES(setsockopt(file, level, name, tries[try].value, tries[try].len)) ||
                        (!is_unknown() && errno != EINVAL && errno != EPERM && errno != EDOM);
        }
        close(file);
    }
    return is_known;
}

static bool gets(const struct kind *kinds, size_t count, int level, int name) {
    bool is_known = false;
    for (size_t at = 0; at < count; at++) {
        char buffer[512] = {0};
        socklen_t len = sizeof buffer;
        int file = socket(kinds[at].family, kinds[at].type, 0);
        errno = 0;
        is_known |= TAKES(getsockopt(file, level, name, buffer, &len)) || (errno == ENODATA || errno == ENOTCONN);
        close(file);
    }
    return is_known;
}

#define OPTIONS(id, kinds, level, title)                                                           \
    SPACE(set_##id, "setsockopt: " title, NUMBERS, 0, 128, TOGETHER) {                             \
        return sets(kinds, sizeof kinds / sizeof kinds[0], level, value);                          \
    }                                                                                              \
    SPACE(get_##id, "getsockopt: " title, NUMBERS, 0, 128, TOGETHER) {                             \
        return gets(kinds, sizeof kinds / sizeof kinds[0], level, value);                          \
    }

OPTIONS(unix, unix_kinds, SOL_SOCKET, "SOL_SOCKET, unix")
OPTIONS(inet, inet_kinds, SOL_SOCKET, "SOL_SOCKET, inet")
OPTIONS(ip, inet_kinds, IPPROTO_IP, "IPPROTO_IP")
OPTIONS(ipv6, inet_kinds, IPPROTO_IPV6, "IPPROTO_IPV6")
OPTIONS(tcp, inet_kinds, IPPROTO_TCP, "IPPROTO_TCP")
OPTIONS(udp, inet_kinds, IPPROTO_UDP, "IPPROTO_UDP")
OPTIONS(netlink_socket, netlink_kinds, SOL_SOCKET, "SOL_SOCKET, netlink")
OPTIONS(netlink, netlink_kinds, SOL_NETLINK, "SOL_NETLINK")

// Levels that have no options at all here.
SPACE(levels, "setsockopt: other levels", NUMBERS, 0, 300, TOGETHER) {
    static const unsigned long listed[] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, SOL_NETLINK};
    for (size_t at = 0; at < sizeof listed / sizeof listed[0]; at++)
        if (value == listed[at])
            return false;
    for (int name = 0; name < 32; name++)
        if (sets(inet_kinds, 2, value, name) || sets(unix_kinds, 1, value, name) || sets(netlink_kinds, 1, value, name))
            return true;
    return false;
}

// LINUX: what send and recv do not know they ignore.
static bool sends(int family, int type, unsigned long flags) {
    int pair[2];
    if (family == AF_UNIX) {
        if (socketpair(family, type, 0, pair) != 0)
            exit(2);
    } else {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof address;
        for (int at = 0; at < 2; at++)
            pair[at] = socket(family, type, 0);
        if (bind(pair[1], (void *)&address, len) != 0 || getsockname(pair[1], (void *)&address, &len) != 0 ||
            (type == SOCK_STREAM && listen(pair[1], 1) != 0) || connect(pair[0], (void *)&address, len) != 0)
            exit(2);
    }
    return TAKES(send(pair[0], "x", 1, flags | MSG_NOSIGNAL));
}

static bool receives(int type, unsigned long flags) {
    int pair[2];
    char byte;
    if (socketpair(AF_UNIX, type, 0, pair) != 0 || send(pair[1], "x", 1, flags & MSG_OOB) < 0)
        return false;
    return TAKES(recv(pair[0], &byte, 1, flags));
}

SPACE(send_unix, "send: flags, unix", NAMED, 0, 0, EACH_ALONE) {
    return sends(AF_UNIX, SOCK_STREAM, value) || sends(AF_UNIX, SOCK_SEQPACKET, value);
}
SPACE(send_inet, "send: flags, inet", NAMED, 0, 0, EACH_ALONE) {
    return sends(AF_INET, SOCK_STREAM, value) || sends(AF_INET, SOCK_DGRAM, value);
}
SPACE(recv_unix, "recv: flags, unix", NAMED, 0, 0, EACH_ALONE) {
    return receives(SOCK_STREAM, value) || receives(SOCK_DGRAM, value);
}
