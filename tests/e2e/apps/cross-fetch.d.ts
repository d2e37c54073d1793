// The type that @powersync/shared-internals imports from a package that it does not
// depend on, in lib/client/sync/stream/AbstractRemote.d.ts.
declare module 'cross-fetch' {
  const send: typeof globalThis.fetch;
  export { send as fetch };
}
