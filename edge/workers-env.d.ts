declare namespace Cloudflare {
  /** What infra/wrangler.jsonc binds; variables are text, and checked by config.ts. */
  interface Env {
    readonly HUB: DurableObjectNamespace;
    readonly REDIS_URL: string;
  }
}
