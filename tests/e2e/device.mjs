// A device with Node.js. The environment says where things are:
//   POSTERN_URL    the service, with the development issuer at /dev/token
//   DEVICE_FOLDER  an empty folder for the database
import { PowerSyncDatabase } from '@powersync/node';

import { App, logger, schema } from './app.mjs';

export class Device extends App {
  /**
   * @param {string} user who is signed in, and the name of the database's file
   * @param {object} [options] App's
   */
  constructor(user, options) {
    const db = new PowerSyncDatabase({
      schema,
      database: {
        dbFilename: `${user}.db`,
        dbLocation: process.env.DEVICE_FOLDER,
        readWorkerCount: 1,
        // The other driver, better-sqlite3, must be compiled or downloaded.
        implementation: { type: 'node:sqlite' }
      },
      logger
    });
    super(db, process.env.POSTERN_URL, user, options);
  }

  /** Prints the report, as the scenario's last word. */
  async finish(more) {
    const report = await this.report(more);
    await this.db.close();
    process.stdout.write(JSON.stringify(report));
  }
}
