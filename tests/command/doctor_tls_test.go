package command_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"postern/service/local"
	"postern/supabase"
	"postern/tests/rig"
)

// newServer starts a Postgres of the test's own.
func newServer(t *testing.T) *rig.Database {
	t.Helper()
	return prepare(t, startServer(t), "postgres")
}

func startServer(t *testing.T) *local.Postgres {
	t.Helper()
	server, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: filepath.Join(dataDir(t), "postgres"), Throwaway: true})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	return server
}

// prepare sets up a database of a server like a new project.
func prepare(t *testing.T, server *local.Postgres, name string) *rig.Database {
	t.Helper()
	loginURL, err := local.PrepareDatabase(t.Context(), server, name, supabase.Project)
	require.NoError(t, err)
	db := &rig.Database{OwnerURL: server.OwnerURL(name), LoginURL: loginURL}
	db.Owner, err = pgxpool.New(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	t.Cleanup(db.Owner.Close)
	return db
}

// remoteAddress is an address of this machine that is not its loopback address.
func remoteAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range addresses {
		if ip, ok := address.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	rig.Unable(t, "this machine has no address but the loopback one")
	return ""
}

// turnOnTLS gives a server a certificate for an address, and returns the file of the
// certificate.
func turnOnTLS(t *testing.T, db *rig.Database, address string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a test"}, IPAddresses: []net.IP{net.ParseIP(address)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)

	data := db.Text(t, `show data_directory`)
	info, err := os.Stat(data)
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	for name, block := range map[string]*pem.Block{"server.crt": {Type: "CERTIFICATE", Bytes: certificate}, "server.key": {Type: "PRIVATE KEY", Bytes: secret}} {
		file := filepath.Join(data, name)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
		require.NoError(t, os.Chown(file, int(owner.Uid), int(owner.Gid)))
	}
	db.Exec(t, `alter system set ssl = on`)
	db.Exec(t, `select pg_reload_conf()`)
	require.Eventually(t, func() bool { return db.Text(t, `show ssl`) == "on" }, 10*time.Second, 10*time.Millisecond)
	return filepath.Join(data, "server.crt")
}

// TestDoctorTLS has the doctor look at a database that is not on this machine's loopback
// address, with the values that sslmode may have.
func TestDoctorTLS(t *testing.T) {
	t.Parallel()
	address := remoteAddress(t)
	db := newServer(t)
	server, err := url.Parse(db.LoginURL)
	require.NoError(t, err)
	remote := rig.NewProxy(t, server.Host, rig.ProxyOptions{Host: address})
	server.Host = remote.Address
	hidden := strings.NewReplacer(remote.Address, "HOST:PORT", address, "HOST")
	examine := func(name, mode string) {
		server.RawQuery = mode
		p := newPatient(t, db)
		p.env["DATABASE_URL"] = server.String()
		output, code := p.doctor(t)
		requireGolden(t, name, hidden.Replace(output), code)
	}
	examine("tls-off-at-the-server", "sslmode=require")
	certificate := turnOnTLS(t, db, address)
	for name, mode := range map[string]string{
		"tls-disable":           "sslmode=disable",
		"tls-prefer":            "sslmode=prefer",
		"tls-require":           "sslmode=require",
		"tls-verify-ca":         "sslmode=verify-ca&sslrootcert=" + certificate,
		"tls-verify-full":       "sslmode=verify-full&sslrootcert=" + certificate,
		"tls-unknown-authority": "sslmode=verify-full",
		"tls-no-such-file":      "sslmode=verify-full&sslrootcert=/nowhere/root.crt",
	} {
		examine(name, mode)
	}
	turnOnTLS(t, db, "203.0.113.9")
	examine("tls-certificate-of-another-host", "sslmode=verify-full&sslrootcert="+certificate)
}
