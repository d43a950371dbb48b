# Node: files, a server and its client, threads, children, cryptography, compression, WebAssembly.
set -eu
mkdir -p /tmp/node && cd /tmp/node
cat > main.js <<'END'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
if (!isMainThread) {
    let sum = 0;
    for (let i = 0; i < 3e6; i++) sum = (sum + i * workerData) % 1000003;
    parentPort.postMessage(sum);
} else (async () => {
    const crypto = require('crypto'), fs = require('fs'), http = require('http'), zlib = require('zlib');
    const { execFile, fork } = require('child_process');
    const { promisify } = require('util');
    const sums = await Promise.all([1, 2, 3, 4].map(n => new Promise((done, fail) => new Worker(__filename, { workerData: n }).on('message', done).on('error', fail))));
    console.log('workers', sums.join(' '));
    const bytes = Buffer.alloc(1 << 20, 'node');
    await fs.promises.writeFile('file', bytes);
    console.log('file', crypto.createHash('sha256').update(await fs.promises.readFile('file')).digest('hex').slice(0, 16));
    console.log('scrypt', (await promisify(crypto.scrypt)('password', 'salt', 32)).toString('hex').slice(0, 16));
    console.log('gzip', zlib.gunzipSync(zlib.gzipSync(bytes)).equals(bytes));
    const watched = new Promise(done => { const w = fs.watch('.', (kind, name) => { if (name === 'seen') { w.close(); done(name); } }); });
    fs.writeFileSync('seen', '');
    console.log('watch', await watched);
    const server = http.createServer((request, response) => response.end('path ' + request.url));
    await new Promise(done => server.listen(0, '127.0.0.1', done));
    const port = server.address().port;
    const bodies = await Promise.all([...Array(50).keys()].map(n => fetch(`http://127.0.0.1:${port}/${n}`).then(r => r.text())));
    console.log('http', bodies[49], bodies.join('').length);
    server.close();
    server.closeAllConnections();
    console.log('child', (await promisify(execFile)('sh', ['-c', 'echo out; echo $((6 * 7))'])).stdout.trim().replace('\n', ' '));
    const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]);
    console.log('wasm', (await WebAssembly.instantiate(wasm)).instance.exports.add(40, 2));
    process.on('SIGUSR2', () => { console.log('signal'); process.exit(0); });
    process.kill(process.pid, 'SIGUSR2');
})();
END
node main.js
