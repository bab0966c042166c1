import { createMiddleware } from 'hono/factory';
import { PlatformError } from '../../shared/errors.ts';
import { type TenantId, toTenantId } from '../../shared/ids.ts';
import type { AppEnv } from '../app.ts';

const DEFAULT_TENANT = toTenantId('default');

interface KnownKey {
  readonly digest: Uint8Array;
  readonly tenant: TenantId;
}

/**
 * Names the tenant by its `Authorization: Bearer` key, or refuses with 401. Keys are compared by
 * digest, all of them and to the last byte, so that the time taken tells nothing.
 *
 * @param apiKeys `null` for a service open to all
 */
export function authenticate(apiKeys: ReadonlyMap<string, TenantId> | null) {
  // Not a promise: on Workers that belongs to one request.
  let known: readonly KnownKey[] | null = null;
  return createMiddleware<AppEnv>(async (c, next) => {
    if (apiKeys === null) {
      c.set('tenant', DEFAULT_TENANT);
      return next();
    }
    const key = /^Bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '')?.[1];
    if (key === undefined) {
      throw new PlatformError('invalid_api_key', 'send an API key as "Authorization: Bearer KEY"');
    }
    known ??= await digestKeys(apiKeys);
    const tenant = findTenant(known, await digestOf(key));
    if (tenant === null) throw new PlatformError('invalid_api_key', 'the API key is not known');
    c.set('tenant', tenant);
    return next();
  });
}

function digestKeys(apiKeys: ReadonlyMap<string, TenantId>): Promise<KnownKey[]> {
  return Promise.all(
    Array.from(apiKeys, async ([key, tenant]) => ({ digest: await digestOf(key), tenant })),
  );
}

async function digestOf(key: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(key)));
}

function findTenant(known: readonly KnownKey[], digest: Uint8Array): TenantId | null {
  let found: TenantId | null = null;
  for (const { digest: other, tenant } of known) {
    let difference = 0;
    for (let i = 0; i < digest.length; i += 1) difference |= digest[i]! ^ (other[i] ?? 0xff);
    if (difference === 0) found = tenant;
  }
  return found;
}
