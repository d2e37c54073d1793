package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"postern/service/local"
)

// powerSyncOptions say where dev mode's PowerSync Service is.
type powerSyncOptions struct {
	url  string // as devices reach it
	file string // for its configuration
	host string // this machine, as it knows it
}

// syncFile holds the streams of dev mode's PowerSync Service, beside its configuration.
const syncFile = "sync-config.yaml"

func (o powerSyncOptions) validate() error {
	u, err := url.Parse(o.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return fmt.Errorf("--powersync=%q is not an http(s) URL: write the PowerSync Service's address, such as %s", o.url, devPowerSync)
	}
	return nil
}

// configure writes the configuration of a PowerSync Service, or prints it. posternURL is
// the service's on this machine.
func (o powerSyncOptions) configure(out io.Writer, postgres *local.Postgres, posternURL string) error {
	service, err := url.Parse(o.url)
	if err != nil {
		return err
	}
	keySet, err := url.Parse(posternURL)
	if err != nil {
		return err
	}
	keySet.Host = net.JoinHostPort(cmp.Or(o.host, keySet.Hostname()), keySet.Port())
	keySet.Path = "/dev/jwks.json"
	port, _ := strconv.Atoi(cmp.Or(service.Port(), "8080")) // url.Parse accepts digits only
	config := local.PowerSyncConfig{
		Postgres: postgres, Database: devDatabase, Host: cmp.Or(o.host, "127.0.0.1"), Port: port, KeySet: keySet.String(),
	}
	if o.file == "" {
		_, err := fmt.Fprintf(out, "\nThe configuration of a PowerSync Service, which --powersync-config FILE writes to a file:\n\n%s", config.YAML())
		return err
	}
	config.SyncFile = syncFile
	if err := os.WriteFile(o.file, []byte(config.YAML()), 0o644); err != nil {
		return fmt.Errorf("--powersync-config: %w", err)
	}
	streams := filepath.Join(filepath.Dir(o.file), syncFile)
	if _, err := os.Stat(streams); !errors.Is(err, os.ErrNotExist) {
		_, err := fmt.Fprintf(out, "Wrote %s. %s is kept as it is.\n", o.file, streams)
		return err
	}
	if err := os.WriteFile(streams, []byte(local.DemoStreams()), 0o644); err != nil {
		return fmt.Errorf("--powersync-config: %w", err)
	}
	_, err = fmt.Fprintf(out, "Wrote %s, and %s with the demo's streams: change it as you need.\n", o.file, streams)
	return err
}
