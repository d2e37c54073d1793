package catalog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

const oldestServer = 14

// OldServer is the error of a server that is older than Postgres 14.
type OldServer struct{ Version string }

func (e *OldServer) Error() string {
	return fmt.Sprintf("the server is Postgres %s: upgrade it to %d or newer", e.Version, oldestServer)
}

// CheckServer returns an *OldServer for the connection to one. It needs no round trip.
func CheckServer(conn *pgx.Conn) error {
	return checkVersion(conn.PgConn().ParameterStatus("server_version"))
}

// checkVersion takes a version such as "13.23 (Debian 13.23-1)". What it cannot read, such
// as nothing from a proxy, is no obstacle.
func checkVersion(version string) error {
	version, _, _ = strings.Cut(version, " ")
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < oldestServer {
		return &OldServer{version}
	}
	return nil
}
