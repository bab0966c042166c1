declare const brand: unique symbol;

/** `req-` and 32 hex digits. Every Redis key of a request carries it as its hash tag. */
export type RequestId = string & { readonly [brand]: 'RequestId' };

/** Who pays and whose data it is. Caches and idempotency keys are salted with it. */
export type TenantId = string & { readonly [brand]: 'TenantId' };

/** An index into the model's vocabulary. */
export type TokenId = number;

const requestIdPattern = /^req-[0-9a-f]{32}$/;

export function createRequestId(): RequestId {
  return toRequestId(`req-${crypto.randomUUID().replaceAll('-', '')}`);
}

export function isRequestId(text: string): text is RequestId {
  return requestIdPattern.test(text);
}

/** @throws {TypeError} when `text` does not have the shape of a request id */
export function toRequestId(text: string): RequestId {
  if (!isRequestId(text)) throw new TypeError(`not a request id: ${text.slice(0, 60)}`);
  return text;
}

export function toTenantId(text: string): TenantId {
  return text as TenantId;
}
