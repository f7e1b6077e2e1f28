// graphile-worker: addJob and addJobs of its WorkerUtils, run() with a task list.
// What it is asked and how it answers is written in protocol.py. Started in the folder of its node_modules.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const installed = createRequire(`${process.cwd()}/package.json`);
const load = (name) => import(pathToFileURL(installed.resolve(name)));
const { Logger, makeWorkerUtils, run, runMigrations } = await load("graphile-worker");
const { default: pg } = await load("pg");

const silent = new Logger(() => () => {});
const now = () => Number(process.hrtime.bigint()) / 1e9;
const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// The library asks for handlers of a pool's errors; here an error is one.
const makePool = (url, max) => {
  const fail = (error) => {
    throw error;
  };
  return new pg.Pool({ connectionString: url, max })
    .on("error", fail)
    .on("connect", (client) => client.on("error", fail));
};

async function withUtils(url, use) {
  const pool = makePool(url, 2);
  const utils = await makeWorkerUtils({ pgPool: pool, logger: silent });
  try {
    return await use(utils, pool);
  } finally {
    await utils.release();
    await pool.end();
  }
}

const verbs = {
  async prepare(url) {
    await runMigrations({ connectionString: url, logger: silent });
  },

  enqueue_single: (url, { count }) =>
    withUtils(url, async (utils) => {
      const began = now();
      for (let number = 0; number < count; number++) await utils.addJob("noop", { number });
      return { seconds: now() - began };
    }),

  enqueue_transaction: (url, { count, size }) =>
    withUtils(url, async (utils, pool) => {
      const client = await pool.connect();
      const began = now();
      for (let first = 0; first < count; first += size) {
        await client.query("begin");
        for (let number = first; number < Math.min(first + size, count); number++) {
          await client.query({
            name: "add_job",
            text: "select graphile_worker.add_job($1::text, $2::json)",
            values: ["noop", JSON.stringify({ number })],
          });
        }
        await client.query("commit");
      }
      const seconds = now() - began;
      client.release();
      return { seconds };
    }),

  enqueue_bulk: (url, { count, size = 10_000 }) =>
    withUtils(url, async (utils) => {
      const began = now();
      for (let first = 0; first < count; first += size) {
        const length = Math.min(size, count - first);
        await utils.addJobs(
          Array.from({ length }, (_, index) => ({ identifier: "noop", payload: { number: first + index } })),
        );
      }
      return { seconds: now() - began };
    }),

  enqueue_slowly: (url, { count, pause_seconds }) =>
    withUtils(url, async (utils) => {
      const committed = [];
      for (let number = 0; number < count; number++) {
        await sleep(pause_seconds);
        await utils.addJob("noop", { number });
        committed.push(now());
      }
      return { committed };
    }),

  async work(url, { trace = false, pool = 10, ...worker }) {
    let running = false;
    const taskList = {
      noop: async ({ number }) => {
        if (!running || trace) say({ number, at: now() });
        running = true;
      },
    };
    const pgPool = makePool(url, pool);
    await pgPool.query("select 1");
    say({ ready: true });
    await new Promise((resolve) => createInterface({ input: process.stdin }).once("line", resolve));
    const runner = await run({
      preset: { worker: { ...worker, logger: silent } },
      pgPool,
      taskList,
      noHandleSignals: true,
    });
    await runner.promise;
  },
};

const [verb, url, options] = process.argv.slice(2);
const answer = await verbs[verb](url, JSON.parse(options));
if (answer !== undefined) say(answer);
