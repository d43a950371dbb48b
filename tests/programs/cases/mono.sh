# Mono, the common language run-time that Debian has: the compiler, threads, tasks, collection of garbage, sockets.
set -eu
mkdir -p /tmp/mono && cd /tmp/mono
cat > main.cs <<'END'
using System;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
class Program {
    static void Main() {
        Console.WriteLine("parallel " + ParallelEnumerable.Range(0, 1000000).Where(n => n % 7 == 3).Count());
        var tasks = Enumerable.Range(0, 50).Select(n => Task.Run(() => { long s = 0; for (int i = 0; i < 100000; i++) s = (s * 31 + i + n) % 1000003; return s; })).ToArray();
        Console.WriteLine("tasks " + tasks.Sum(t => t.Result));
        for (int i = 0; i < 100000; i++) { var garbage = new byte[2000]; garbage[i % 2000] = 1; }
        GC.Collect();
        Console.WriteLine("collected " + (GC.CollectionCount(0) > 0));
        var server = new TcpListener(IPAddress.Loopback, 0);
        server.Start();
        var port = ((IPEndPoint)server.LocalEndpoint).Port;
        var serving = Task.Run(() => { for (int i = 0; i < 20; i++) using (var c = server.AcceptTcpClient()) { var s = c.GetStream(); var r = new StreamReader(s); var w = new StreamWriter(s); w.WriteLine(r.ReadLine().ToUpper()); w.Flush(); } });
        int length = 0;
        for (int i = 0; i < 20; i++) using (var c = new TcpClient("127.0.0.1", port)) { var s = c.GetStream(); var w = new StreamWriter(s); w.WriteLine("hello " + i); w.Flush(); length += new StreamReader(s).ReadLine().Length; }
        serving.Wait();
        Console.WriteLine("sockets " + length);
        try { string nothing = null; Console.WriteLine(nothing.Length); } catch (NullReferenceException) { Console.WriteLine("null reference"); }
        int zero = 0;
        try { Console.WriteLine(1 / zero); } catch (DivideByZeroException) { Console.WriteLine("division by zero"); }
    }
}
END
mcs main.cs
mono main.exe
