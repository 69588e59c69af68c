// Runs the modules of tests/wasm under Node.js: node run.mjs MODEL TEXT TRACE PLAIN.wasm SIMD128.wasm
//
// In each, the kernels must equal the scalar ones, and the text be answered with the host's trace. Then the encoder is timed: median of
// interleaved rounds, milliseconds.
import { readFileSync } from "node:fs";

const [modelPath, text, trace, ...paths] = process.argv.slice(2);
const model = readFileSync(modelPath);
const question = new TextEncoder().encode(text);
const PAGE = 65536;
const WORKSPACE = 4 << 20;
const TOKENS = [16, 64, 128];
const ROUNDS = 7;

function load(path) {
    let printed = "";
    let exports;
    // A panic prints too, and then traps.
    const print = (address, bytes) => {
        printed += new TextDecoder().decode(new Uint8Array(exports.memory.buffer, address, bytes));
    };
    exports = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(path)), { host: { print } }).exports;
    // Behind what the module has for itself: the model, the text, the workspace.
    let end = Math.ceil(exports.__heap_base.value / 64) * 64;
    const place = (bytes) => {
        const address = end;
        end += Math.ceil(bytes / 64) * 64;
        const missing = Math.ceil((end - exports.memory.buffer.byteLength) / PAGE);
        if (missing > 0) exports.memory.grow(missing);
        return [address, bytes];
    };
    const [blob, asked, workspace] = [model.length, question.length, WORKSPACE].map(place);
    new Uint8Array(exports.memory.buffer, ...blob).set(model);
    new Uint8Array(exports.memory.buffer, ...asked).set(question);
    const call = (name, ...args) => {
        printed = "";
        try {
            exports[name](...args);
        } catch (trap) {
            fail(`${path}: ${name}: ${trap}: ${printed}`);
        }
        return printed;
    };
    return {
        path,
        suite: () => call("kernel_suite", ...workspace),
        answer: () => call("fill_mask", ...blob, ...asked, ...workspace),
        encode: (tokens) => call("encode", ...blob, tokens, ...workspace),
    };
}

function fail(message) {
    console.error(message);
    process.exit(1);
}

function milliseconds(work) {
    const begun = performance.now();
    work();
    return performance.now() - begun;
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

const modules = paths.map(load);
for (const module of modules) {
    console.log(module.path);
    process.stdout.write(module.suite());
    const printed = module.answer();
    process.stdout.write(printed);
    if (printed !== `trace ${trace}\n`) fail(`differs from the host, whose trace is ${trace}`);
}
for (const tokens of TOKENS) {
    const times = modules.map(() => []);
    modules.forEach((module) => module.encode(tokens));
    for (let round = 0; round < ROUNDS; round++) {
        modules.forEach((module, index) => times[index].push(milliseconds(() => module.encode(tokens))));
    }
    const ratio = median(times[0].map((plain, round) => plain / times[1][round]));
    const medians = times.map((of) => median(of).toFixed(1)).join(" and ");
    console.log(`encoder, ${tokens} tokens: ${medians} ms, plain / simd128 ${ratio.toFixed(2)}`);
}
