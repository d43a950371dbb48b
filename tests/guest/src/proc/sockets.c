// Which process has a socket? The number of its node in /proc/net is the one that /proc/PID/fd and fstat show.
#include "../harness.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

static char text[1 << 18];

// The fields of the line in `path` whose local port is `port`; its address has `digits` digits.
static void find_line(const char *path, int port, int digits, unsigned *uid, unsigned long *node, unsigned *state) {
    read_file(path, text, sizeof text);
    for (char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        char local[64], remote[64];
        unsigned at, local_port, remote_port, found_uid, found_state;
        unsigned long found;
        int fields = sscanf(line + 1, "%u: %63[0-9A-F]:%X %63[0-9A-F]:%X %X %*s %*s %*s %u %*u %lu", &at, local, &local_port,
                            remote, &remote_port, &found_state, &found_uid, &found);
        if (fields != 8 || (int)local_port != port)
            continue;
        CHECK_EQ((int)strlen(local), digits);
        CHECK_EQ((int)strlen(remote), digits);
        *uid = found_uid;
        *node = found;
        *state = found_state;
        return;
    }
    guest_fail(__FILE__, __LINE__, "no port %d in %s", port, path);
}

static void expect_in_table(const char *path, int family, int type) {
    int fd = CHECK_OK(socket(family, type, 0));
    struct sockaddr_storage address = {.ss_family = family};
    socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (family == AF_INET)
        ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
    CHECK_OK(bind(fd, (struct sockaddr *)&address, length));
    if (type == SOCK_STREAM)
        CHECK_OK(listen(fd, 5));
    CHECK_OK(getsockname(fd, (struct sockaddr *)&address, &length));
    struct stat attributes;
    CHECK_OK(fstat(fd, &attributes));
    unsigned uid, state;
    unsigned long node;
    find_line(path, ntohs(((struct sockaddr_in *)&address)->sin_port), family == AF_INET ? 8 : 32, &uid, &node, &state);
    CHECK_EQ(node, attributes.st_ino);
    CHECK_EQ(uid, geteuid());
    CHECK_EQ(state, type == SOCK_STREAM ? 10 : 7);
    char link[64], want[64], name[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    snprintf(want, sizeof want, "socket:[%lu]", (unsigned long)attributes.st_ino);
    ssize_t got = CHECK_OK(readlink(link, name, sizeof name - 1));
    name[got] = 0;
    CHECK_STR(name, want);
}

TEST(a_tcp_socket_is_found_by_its_node) { expect_in_table("/proc/net/tcp", AF_INET, SOCK_STREAM); }
TEST(a_tcp6_socket_is_found_by_its_node) { expect_in_table("/proc/net/tcp6", AF_INET6, SOCK_STREAM); }
TEST(a_udp_socket_is_found_by_its_node) { expect_in_table("/proc/net/udp", AF_INET, SOCK_DGRAM); }
TEST(a_udp6_socket_is_found_by_its_node) { expect_in_table("/proc/net/udp6", AF_INET6, SOCK_DGRAM); }

TEST(an_accepted_connection_is_found_by_its_node) {
    int pair[2];
    local_tcp_pair(pair);
    for (int end = 0; end < 2; end++) {
        struct sockaddr_in address;
        socklen_t length = sizeof address;
        CHECK_OK(getsockname(pair[end], (struct sockaddr *)&address, &length));
        struct stat attributes;
        CHECK_OK(fstat(pair[end], &attributes));
        char want[64];
        snprintf(want, sizeof want, " %lu ", (unsigned long)attributes.st_ino);
        read_file("/proc/net/tcp", text, sizeof text);
        CHECK(strstr(text, want) != NULL);
    }
}

TEST(a_unix_socket_is_found_by_its_node) {
    int fd = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int name = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "who-has-it-%d", getpid());
    CHECK_OK(bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + name));
    struct stat attributes;
    CHECK_OK(fstat(fd, &attributes));
    read_file("/proc/net/unix", text, sizeof text);
    char want[80];
    snprintf(want, sizeof want, " %lu @who-has-it-%d\n", (unsigned long)attributes.st_ino, getpid());
    CHECK(strstr(text, want) != NULL);
}

TEST(what_waits_in_a_queue_is_shown) {
    int pair[2];
    local_tcp_pair(pair);
    CHECK_EQ(write(pair[0], "12345", 5), 5);
    char bytes[8];
    CHECK_EQ(recv(pair[1], bytes, sizeof bytes, MSG_PEEK), 5);
    struct stat attributes;
    CHECK_OK(fstat(pair[1], &attributes));
    char want[64];
    snprintf(want, sizeof want, " %lu ", (unsigned long)attributes.st_ino);
    read_file("/proc/net/tcp", text, sizeof text);
    char *found = strstr(text, want);
    CHECK(found != NULL);
    *found = 0;
    CHECK(strstr(strrchr(text, '\n'), " 00000000:00000005 ") != NULL);
}

TEST(files_of_the_network_are_there) {
    static const char *const names[] = {"arp",  "dev",      "if_inet6", "igmp",     "igmp6", "ipv6_route",
                                        "netlink", "netstat", "packet",  "protocols", "ptype",   "raw",   "raw6",
                                        "route",   "snmp",    "snmp6",   "sockstat",  "sockstat6", "tcp", "tcp6",
                                        "udp",     "udp6",    "udplite", "udplite6",  "unix"};
    for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/net/%s", names[at]);
        if (access(path, R_OK) == -1)
            guest_fail(__FILE__, __LINE__, "%s: errno %d", path, errno);
    }
}
