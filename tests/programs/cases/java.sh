# The JVM: the compiler, threads, collection of garbage, files, a server and its client, signals to itself, a child process.
set -eu
mkdir -p /tmp/java && cd /tmp/java
cat > Main.java <<'END'
import com.sun.net.httpserver.HttpServer;
import java.net.*;
import java.net.http.*;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Main {
    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(16);
        List<Future<Long>> parts = new ArrayList<>();
        for (int i = 0; i < 64; i++) {
            final int from = i * 1000;
            parts.add(pool.submit(() -> LongStream.range(from, from + 1000).map(n -> n * n % 97).sum()));
        }
        long sum = 0;
        for (Future<Long> part : parts) sum += part.get();
        System.out.println("pool " + sum);
        long kept = 0;
        for (int i = 0; i < 200000; i++) kept += new byte[1024].length;
        System.gc();
        System.out.println("allocated " + kept);
        System.out.println("parallel " + IntStream.range(0, 1000000).parallel().filter(n -> Integer.bitCount(n) == 5).count());
        Path file = Files.createTempFile("java", "test");
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            var map = channel.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 16);
            for (int i = 0; i < 1 << 16; i++) map.put(i, (byte) (i * 7));
            map.force();
            ByteBuffer back = ByteBuffer.allocate(4);
            channel.read(back, 100);
            System.out.println("mapped " + Arrays.toString(back.array()));
        }
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> {
            byte[] answer = ("hello " + exchange.getRequestURI()).getBytes();
            exchange.sendResponseHeaders(200, answer.length);
            exchange.getResponseBody().write(answer);
            exchange.close();
        });
        server.setExecutor(pool);
        server.start();
        HttpClient client = HttpClient.newHttpClient();
        List<CompletableFuture<String>> answers = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            URI uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/" + i);
            answers.add(client.sendAsync(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString()).thenApply(HttpResponse::body));
        }
        int length = 0;
        for (var answer : answers) length += answer.get().length();
        System.out.println("http " + length);
        server.stop(0);
        try { recurse(0); } catch (StackOverflowError error) { System.out.println("stack overflow"); }
        try { Object nothing = null; nothing.hashCode(); } catch (NullPointerException error) { System.out.println("null pointer"); }
        Process child = new ProcessBuilder("sh", "-c", "echo from a child; exit 3").start();
        System.out.print(new String(child.getInputStream().readAllBytes()));
        System.out.println("status " + child.waitFor());
        pool.shutdown();
        System.out.println(pool.awaitTermination(10, TimeUnit.SECONDS));
    }

    static int recurse(int n) { return recurse(n + 1) + 1; }
}
END
javac Main.java
for collector in Serial Parallel G1 Z; do
    echo "== $collector"
    java -XX:+Use${collector}GC -Xmx256m Main
done
