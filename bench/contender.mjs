// The contender for proper-lockfile: the orders of contender.py, for a lock that is no Python.
//
// It does not wait unless it is told to, so it gets the shortest retry that its users are shown.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { closeSync, openSync } from "node:fs";

const [path, modules] = process.argv.slice(2);
const lockfile = createRequire(`${modules}/`)("proper-lockfile");
const PATIENT = { realpath: false, retries: { forever: true, minTimeout: 20, maxTimeout: 20 } };
const REST_MS = 1000;

const now = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC, as Python's
const cpu = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; };
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const named = (name) => { closeSync(openSync(name, "a")); return name; };
const take = (name) => lockfile.lock(named(name), PATIENT);
const names = (number) => Array.from({ length: number }, (_, one) => `${path}-${one}`);

let letGo;

const orders = {
  async cycles(number) {
    const took = [];
    for (let one = 0; one < number; one++) {
      const started = now();
      const release = await take(path);
      await release();
      took.push(now() - started);
    }
    return took;
  },
  async take() {
    letGo = await take(path);
    return now();
  },
  async release() {
    const before = now();
    await letGo();
    return before;
  },
  async contend(start, until, hold) {
    await sleep(Math.max(0, start - now()));
    let turns = 0;
    let longest = 0;
    for (let asked = now(); asked < until; asked = now()) {
      const release = await take(path);
      longest = Math.max(longest, now() - asked);
      turns += 1;
      await sleep(hold);
      await release();
    }
    return [turns, longest];
  },
  async hold(number) {
    for (const name of names(number)) await take(name);
    return number;
  },
  async wait(number, seconds) {
    for (const name of names(number)) void take(name);
    await sleep(REST_MS / 1000);
    const before = cpu();
    await sleep(seconds);
    return cpu() - before;
  },
};

console.log(JSON.stringify("ready"));
for await (const line of createInterface({ input: process.stdin })) {
  const [order, ...rest] = JSON.parse(line);
  console.log(JSON.stringify(await orders[order](...rest)));
}
process.exit(0);
