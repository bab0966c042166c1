import { loadConfig, loadWorkersConfig, WORKERS_VARIABLES } from '../edge/config.ts';
import { consoleLog } from '../edge/log.ts';
import { openWorkerd } from './workerd-runtime.ts';

/** `npm run edge:workers`: the edge in workerd, as wrangler would deploy it, until told to stop. */
async function main(): Promise<void> {
  const { port, hostname } = loadConfig(process.env);
  loadWorkersConfig(process.env); // faults are told now, not with the first request
  const bindings = Object.fromEntries(
    WORKERS_VARIABLES.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
  await using workerd = await openWorkerd({ port, hostname, bindings });
  const stopped = new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.removeAllListeners(signal); // wrangler's own would exit before we are done
      process.once(signal, resolve);
    }
  });
  consoleLog('edge_ready', { port: workerd.port });
  await stopped;
}

try {
  await main();
  consoleLog('edge_stopped', {});
} catch (error) {
  console.error(error instanceof Error ? `edge: ${error.message}` : error);
  process.exitCode = 1;
}
// Whatever wrangler still keeps open must not keep us.
process.exit();
