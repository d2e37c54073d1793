// A tab of a browser. Its files come from browser.mjs.
import { PowerSyncDatabase } from '@powersync/web';

import { App, logger, schema } from './app.mjs';

export class Tab extends App {
  /**
   * @param {string} url Postern's
   * @param {string} user who is signed in. All tabs have the same database
   * @param {object} [options] App's, and:
   * @param {boolean} [options.enableMultiTabs] whether the SDK syncs all tabs in one shared worker
   */
  constructor(url, user, { enableMultiTabs = true, ...options } = {}) {
    const database = { dbFilename: 'app.db', worker: '/worker/worker.js', enableMultiTabs };
    super(new PowerSyncDatabase({ schema, database, logger }), url, user, options);
  }
}
