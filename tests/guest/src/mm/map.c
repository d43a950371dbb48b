// What do mmap, munmap, mprotect and mremap do to the address space?
#include "../harness.h"
#include <sys/personality.h>

static char *map_pages(int count) {
    void *at = mmap(NULL, count * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static bool is_mapped(void *at) {
    unsigned char residence;
    return mincore(at, GUEST_PAGE, &residence) == 0;
}

TEST(anonymous_memory_is_zero_and_page_aligned) {
    char *at = map_pages(16);
    CHECK_EQ((uintptr_t)at % GUEST_PAGE, 0);
    for (long offset = 0; offset < 16 * GUEST_PAGE; offset++)
        CHECK(at[offset] == 0);
}

TEST(mmap_of_length_zero_is_einval) {
    CHECK_ERR((long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
}

TEST(mmap_without_shared_or_private_is_einval) {
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
}

TEST(mmap_of_a_bad_descriptor_is_ebadf) {
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
}

TEST(mmap_at_an_odd_offset_is_einval) {
    make_file("f", "x");
    int fd = CHECK_OK(open("f", O_RDONLY));
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
}

TEST(shared_writable_map_of_a_read_only_descriptor_is_eacces) {
    make_file("f", "x");
    int fd = CHECK_OK(open("f", O_RDONLY));
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    char *at = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    CHECK_ERR(mprotect(at, GUEST_PAGE, PROT_READ | PROT_WRITE), EACCES);
}

TEST(map_of_a_write_only_descriptor_is_eacces) {
    int fd = CHECK_OK(open("f", O_CREAT | O_WRONLY, 0644));
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EACCES);
}

TEST(mmap_larger_than_the_address_space_is_enomem) {
    CHECK_ERR((long)mmap(NULL, 1UL << 47, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
}

TEST(mmap_of_a_directory_is_enodev) {
    int fd = CHECK_OK(open(".", O_RDONLY | O_DIRECTORY));
    CHECK_ERR((long)mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
}

TEST(map_fixed_replaces_what_was_there) {
    char *at = map_pages(3);
    memset(at, 1, 3 * GUEST_PAGE);
    void *middle = mmap(at + GUEST_PAGE, GUEST_PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(middle == at + GUEST_PAGE);
    CHECK_EQ(at[GUEST_PAGE - 1], 1);
    CHECK_EQ(at[GUEST_PAGE], 0);
    CHECK_EQ(at[2 * GUEST_PAGE], 1);
}

TEST(map_fixed_at_an_unaligned_address_is_einval) {
    char *at = map_pages(2);
    CHECK_ERR((long)mmap(at + 1, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
}

TEST(map_fixed_noreplace_over_a_mapping_is_eexist) {
    char *at = map_pages(2);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    CHECK_ERR((long)mmap(at + GUEST_PAGE, GUEST_PAGE, PROT_READ, flags, -1, 0), EEXIST);
    CHECK_OK(munmap(at + GUEST_PAGE, GUEST_PAGE));
    CHECK(mmap(at + GUEST_PAGE, GUEST_PAGE, PROT_READ, flags, -1, 0) == at + GUEST_PAGE);
}

TEST(free_address_hint_is_honoured) {
    char *at = map_pages(64);
    CHECK_OK(munmap(at, 64 * GUEST_PAGE));
    void *got = mmap(at + 8 * GUEST_PAGE, GUEST_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(got == at + 8 * GUEST_PAGE);
}

TEST(partial_munmap_leaves_both_sides) {
    char *at = map_pages(3);
    memset(at, 5, 3 * GUEST_PAGE);
    CHECK_OK(munmap(at + GUEST_PAGE, GUEST_PAGE));
    CHECK(is_mapped(at));
    CHECK(!is_mapped(at + GUEST_PAGE));
    CHECK(is_mapped(at + 2 * GUEST_PAGE));
    CHECK_EQ(at[GUEST_PAGE - 1] + at[2 * GUEST_PAGE], 10);
}

TEST(munmap_of_nothing_succeeds) {
    char *at = map_pages(4);
    CHECK_OK(munmap(at, 4 * GUEST_PAGE));
    CHECK_OK(munmap(at, 4 * GUEST_PAGE));
}

TEST(munmap_of_an_unaligned_address_or_zero_length_is_einval) {
    char *at = map_pages(1);
    CHECK_ERR(munmap(at + 8, GUEST_PAGE), EINVAL);
    CHECK_ERR(munmap(at, 0), EINVAL);
    CHECK_OK(munmap(at, 1));
    CHECK(!is_mapped(at));
}

TEST(mprotect_over_a_hole_is_enomem) {
    char *at = map_pages(3);
    CHECK_OK(munmap(at + GUEST_PAGE, GUEST_PAGE));
    CHECK_ERR(mprotect(at, 3 * GUEST_PAGE, PROT_READ), ENOMEM);
}

TEST(mprotect_of_an_unaligned_address_is_einval) {
    char *at = map_pages(1);
    CHECK_ERR(mprotect(at + 1, GUEST_PAGE, PROT_READ), EINVAL);
    CHECK_OK(mprotect(at, 0, PROT_NONE));
    at[0] = 1;
}

TEST(mprotect_read_only_keeps_the_content) {
    char *at = map_pages(2);
    memset(at, 9, 2 * GUEST_PAGE);
    CHECK_OK(mprotect(at, 2 * GUEST_PAGE, PROT_NONE));
    CHECK_OK(mprotect(at, 2 * GUEST_PAGE, PROT_READ));
    CHECK_EQ(at[GUEST_PAGE + 5], 9);
}

TEST(system_call_into_a_prot_none_page_is_efault) {
    char *at = map_pages(1);
    CHECK_OK(mprotect(at, GUEST_PAGE, PROT_NONE));
    int ends[2];
    CHECK_OK(pipe(ends));
    CHECK_ERR(write(ends[1], at, 8), EFAULT);
    CHECK_EQ(write(ends[1], "12345678", 8), 8);
    CHECK_ERR(read(ends[0], at, 8), EFAULT);
}

TEST(mremap_grows_in_place_or_moves_and_keeps_the_content) {
    char *at = map_pages(2);
    strcpy(at + GUEST_PAGE, "content");
    char *grown = mremap(at, 2 * GUEST_PAGE, 64 * GUEST_PAGE, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED);
    CHECK_STR(grown + GUEST_PAGE, "content");
    CHECK_EQ(grown[63 * GUEST_PAGE], 0);
    grown[63 * GUEST_PAGE] = 1;
}

TEST(mremap_that_cannot_grow_in_place_is_enomem) {
    char *at = map_pages(2);
    CHECK_ERR((long)mremap(at, GUEST_PAGE, 2 * GUEST_PAGE, 0), ENOMEM);
}

TEST(mremap_shrinks_in_place) {
    char *at = map_pages(4);
    CHECK(mremap(at, 4 * GUEST_PAGE, GUEST_PAGE, 0) == at);
    CHECK(is_mapped(at));
    CHECK(!is_mapped(at + GUEST_PAGE));
}

TEST(mremap_fixed_moves_over_the_target) {
    char *from = map_pages(1), *to = map_pages(1);
    strcpy(from, "from");
    strcpy(to, "to");
    CHECK(mremap(from, GUEST_PAGE, GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    CHECK_STR(to, "from");
    CHECK(!is_mapped(from));
}

TEST(mremap_dontunmap_leaves_an_empty_mapping) {
    char *from = map_pages(1);
    strcpy(from, "text");
    char *to = (char *)CHECK_OK(syscall(SYS_mremap, from, GUEST_PAGE, GUEST_PAGE, MREMAP_MAYMOVE | 4, 0));
    CHECK(to != from);
    CHECK_STR(to, "text");
    CHECK_EQ(from[0], 0);
}

TEST(mremap_of_nothing_is_efault) {
    char *at = map_pages(1);
    CHECK_OK(munmap(at, GUEST_PAGE));
    CHECK_ERR((long)mremap(at, GUEST_PAGE, 2 * GUEST_PAGE, MREMAP_MAYMOVE), EFAULT);
}

TEST(mremap_of_old_size_zero_duplicates_a_shared_mapping) {
    char *at = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    char *twin = mremap(at, 0, GUEST_PAGE, MREMAP_MAYMOVE);
    CHECK(twin != MAP_FAILED && twin != at);
    at[10] = 'x';
    CHECK_EQ(twin[10], 'x');
}

TEST(madvise_dontneed_zeroes_private_memory) {
    char *at = map_pages(3);
    memset(at, 1, 3 * GUEST_PAGE);
    CHECK_OK(madvise(at + GUEST_PAGE, GUEST_PAGE, MADV_DONTNEED));
    CHECK_EQ(at[0], 1);
    CHECK_EQ(at[GUEST_PAGE], 0);
    CHECK_EQ(at[2 * GUEST_PAGE], 1);
}

TEST(madvise_dontneed_restores_a_private_file_page) {
    make_file("f", "on disk");
    int fd = CHECK_OK(open("f", O_RDONLY));
    char *at = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(at != MAP_FAILED);
    strcpy(at, "mine");
    CHECK_OK(madvise(at, GUEST_PAGE, MADV_DONTNEED));
    CHECK_STR(at, "on disk");
}

TEST(madvise_with_bad_arguments_is_refused) {
    char *at = map_pages(2);
    CHECK_ERR(madvise(at + 1, GUEST_PAGE, MADV_DONTNEED), EINVAL);
    CHECK_ERR(madvise(at, GUEST_PAGE, 9999), EINVAL);
    CHECK_OK(munmap(at, GUEST_PAGE));
    CHECK_ERR(madvise(at, GUEST_PAGE, MADV_DONTNEED), ENOMEM);
}

TEST(madvise_dontfork_hides_memory_from_the_child) {
    char *at = map_pages(1);
    at[0] = 1;
    CHECK_OK(madvise(at, GUEST_PAGE, MADV_DONTFORK));
    pid_t pid = IN_CHILD(if (is_mapped(at)) _exit(1));
    CHECK_EXITS(pid, 0);
}

TEST(madvise_wipeonfork_zeroes_memory_in_the_child) {
    char *at = map_pages(1);
    at[0] = 1;
    CHECK_OK(madvise(at, GUEST_PAGE, MADV_WIPEONFORK));
    pid_t pid = IN_CHILD(CHECK_EQ(at[0], 0));
    CHECK_EXITS(pid, 0);
    CHECK_EQ(at[0], 1);
}

TEST(mincore_tells_resident_pages) {
    char *at = map_pages(4);
    at[GUEST_PAGE] = 1;
    unsigned char residence[4];
    CHECK_OK(mincore(at, 4 * GUEST_PAGE, residence));
    CHECK_EQ(residence[1] & 1, 1);
    CHECK_OK(munmap(at + 2 * GUEST_PAGE, GUEST_PAGE));
    CHECK_ERR(mincore(at, 4 * GUEST_PAGE, residence), ENOMEM);
    CHECK_ERR(mincore(at + 1, GUEST_PAGE, residence), EINVAL);
}

TEST(mlock_and_munlock_succeed_on_mapped_memory) {
    char *at = map_pages(2);
    CHECK_OK(mlock(at, GUEST_PAGE));
    CHECK_OK(munlock(at, GUEST_PAGE));
    CHECK_OK(munmap(at + GUEST_PAGE, GUEST_PAGE));
    CHECK_ERR(mlock(at, 2 * GUEST_PAGE), ENOMEM);
}

TEST(map_populate_makes_pages_resident) {
    char *at = mmap(NULL, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK(at != MAP_FAILED);
    unsigned char residence[4];
    CHECK_OK(mincore(at, 4 * GUEST_PAGE, residence));
    for (int page = 0; page < 4; page++)
        CHECK_EQ(residence[page] & 1, 1);
}

TEST(rlimit_as_makes_mmap_enomem) {
    struct rlimit limit = {64 << 20, 64 << 20};
    CHECK_OK(setrlimit(RLIMIT_AS, &limit));
    CHECK_ERR((long)mmap(NULL, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
}

static long touch_stack(int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    frame[4095] = 1;
    return depth == 0 ? 0 : touch_stack(depth - 1) + frame[4095];
}

TEST(stack_grows_by_megabytes) { CHECK_EQ(touch_stack(1500), 1500); }

TEST(stack_overflow_is_sigsegv) {
    pid_t pid = IN_CHILD(touch_stack(1 << 20));
    CHECK_KILLED(pid, SIGSEGV);
}

// The line of /proc/self/maps that covers `at`.
static bool maps_line(void *at, char *line, size_t size) {
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, size, maps)) {
        unsigned long start, end;
        CHECK_EQ(sscanf(line, "%lx-%lx", &start, &end), 2);
        if (start <= (uintptr_t)at && (uintptr_t)at < end) {
            fclose(maps);
            return true;
        }
    }
    fclose(maps);
    return false;
}

TEST(proc_maps_shows_permissions_of_a_mapping) {
    char *at = map_pages(3), line[512];
    CHECK_OK(mprotect(at + GUEST_PAGE, GUEST_PAGE, PROT_READ));
    CHECK(maps_line(at + GUEST_PAGE, line, sizeof line));
    unsigned long start, end;
    char bits[8];
    CHECK_EQ(sscanf(line, "%lx-%lx %4s", &start, &end, bits), 3);
    CHECK_EQ(start, (uintptr_t)at + GUEST_PAGE);
    CHECK_EQ(end, (uintptr_t)at + 2 * GUEST_PAGE);
    CHECK_STR(bits, "r--p");
    CHECK_OK(munmap(at, 3 * GUEST_PAGE));
    CHECK(!maps_line(at, line, sizeof line));
}

TEST(proc_maps_names_the_mapped_file_and_offset) {
    char line[512], bits[8], content[8193];
    memset(content, 'c', sizeof content);
    content[8192] = 0;
    make_file("mapped", content);
    int fd = CHECK_OK(open("mapped", O_RDONLY));
    struct stat status;
    CHECK_OK(fstat(fd, &status));
    char *at = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED, fd, GUEST_PAGE);
    CHECK(at != MAP_FAILED);
    CHECK(maps_line(at, line, sizeof line));
    unsigned long start, end, offset, inode;
    CHECK_EQ(sscanf(line, "%lx-%lx %4s %lx %*s %lu", &start, &end, bits, &offset, &inode), 5);
    CHECK_STR(bits, "r--s");
    CHECK_EQ(offset, 4096);
    CHECK_EQ(inode, status.st_ino);
    CHECK(strstr(line, "/mapped\n") != NULL);
}

TEST(proc_maps_names_stack_heap_and_vdso) {
    char text[65536];
    void *heap = sbrk(GUEST_PAGE);
    CHECK(heap != (void *)-1);
    read_file("/proc/self/maps", text, sizeof text);
    CHECK(strstr(text, "[stack]") != NULL);
    CHECK(strstr(text, "[heap]") != NULL);
    CHECK(strstr(text, "[vdso]") != NULL);
    CHECK(strstr(text, self_path()) != NULL);
}

// Takes `start..end` for good and, if it is to be shadow, touches both its ends.
static void take_range(unsigned long start, unsigned long end, int protection) {
    char *at = mmap((void *)start, end - start, protection,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (at != (char *)start)
        guest_fail(__FILE__, __LINE__, "%lx..%lx: %p (errno %d)", start, end, at, errno);
    if (protection & PROT_WRITE) {
        at[0] = at[end - start - 1] = 1;
        CHECK_OK(madvise(at, end - start, MADV_DONTDUMP));
    }
    CHECK_OK(munmap(at, end - start));
}

// Everything that these take at fixed places when a program starts; two for ThreadSanitizer, whose places changed in LLVM 17.
HELPER(take_what_sanitizers_take) {
    enum { NONE = PROT_NONE, SHADOW = PROT_READ | PROT_WRITE };
    static const struct {
        unsigned long start, end; // in 4 GiB
        int protection;
    } ranges[] = {
        {0x0080, 0x0100, NONE},   {0x0100, 0x2000, SHADOW}, {0x2000, 0x3000, NONE}, {0x3000, 0x4000, SHADOW}, // ThreadSanitizer
        {0x4000, 0x5500, NONE},   {0x5680, 0x6000, NONE},   {0x6000, 0x6200, NONE}, {0x6200, 0x7b00, NONE},
        {0x7b00, 0x7c00, SHADOW}, {0x7c00, 0x7e80, NONE},
        {0x0200, 0x1000, NONE},   {0x1000, 0x3000, SHADOW}, {0x3000, 0x3400, SHADOW}, {0x3400, 0x5500, NONE}, // since LLVM 17
        {0x5a00, 0x7200, NONE},   {0x7200, 0x7300, SHADOW}, {0x7300, 0x7a00, NONE},
        {0x0100, 0x1000, SHADOW}, {0x1000, 0x1100, NONE},   {0x1100, 0x4000, SHADOW}, {0x4000, 0x5000, NONE}, // MemorySanitizer
        {0x5000, 0x5100, SHADOW}, {0x6000, 0x6100, SHADOW}, {0x6100, 0x7000, NONE},
    };
    for (unsigned long i = 0; i < sizeof ranges / sizeof *ranges; i++)
        take_range(ranges[i].start << 32, ranges[i].end << 32, ranges[i].protection);
    take_range(0x7fff8000, 0x10007fff8000, SHADOW); // AddressSanitizer
    return 0;
}

// A host may strew programs and libraries wider than sanitizers of its day can bear; they run without that then.
static bool strews_too_wide(void) {
    int bits = 0;
    FILE *file = fopen("/proc/sys/vm/mmap_rnd_bits", "r");
    if (file && fscanf(file, "%d", &bits) != 1)
        bits = 0;
    if (file)
        fclose(file);
    return bits > 28;
}

TEST(sanitizers_get_the_places_that_they_want) {
    if (strews_too_wide())
        CHECK_OK(personality(ADDR_NO_RANDOMIZE));
    CHECK_EXITS(spawn_helper("take_what_sanitizers_take", ""), 0);
}
