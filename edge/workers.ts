import { env } from 'cloudflare:workers';
import { createApp } from './app.ts';
import { discardBody } from './body.ts';
import { loadWorkersConfig } from './config.ts';
import { createHubClass } from './transport/hub.ts';
import { HubTransport } from './transport/hub-transport.ts';

const config = loadWorkersConfig(env);

/** Bound as HUB in infra/wrangler.jsonc. */
export const Hub = createHubClass(config.hub);

/**
 * The app on Cloudflare Workers. Promises and streams belong to a request there; so each gets a
 * transport.
 */
const app = createApp(
  () =>
    new HubTransport({
      numHubs: config.numHubs,
      send: (hub, call) =>
        env.HUB.getByName(`hub-${hub}`).fetch('https://hub/', { method: 'POST', body: call }),
    }),
  config.app,
);

export default {
  async fetch(request, bindings, context): Promise<Response> {
    const response = await app.fetch(request, bindings, context);
    await discardBody(request); // else workerd closes the connection on it, and the answer is lost
    return response;
  },
} satisfies ExportedHandler<Cloudflare.Env>;
