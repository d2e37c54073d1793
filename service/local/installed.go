package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// oldest is the first Postgres release that schema postern works on.
const oldest = 14

// installed is a Postgres found on this machine.
type installed struct {
	dir   string // the folder above bin
	major int
}

// choosePostgres returns the folder and version of an installed Postgres: the one on the
// PATH, else the newest, or if the folder has data, one of the version that wrote it. If
// none is installed, it returns the folder and version of a download.
func (j job) choosePostgres(data string) (binaries string, version embeddedpostgres.PostgresVersion, err error) {
	wanted, err := dataVersion(data)
	if err != nil {
		return "", "", fmt.Errorf("%w: start over with --reset", err)
	}
	if j.Reset {
		wanted = 0
	}
	found := findInstalled()
	for _, p := range found {
		if wanted == 0 || p.major == wanted {
			return p.dir, embeddedpostgres.PostgresVersion(strconv.Itoa(p.major)), nil
		}
	}
	downloaded := filepath.Join(j.Dir, "postgres")
	if wanted == 0 {
		return downloaded, embeddedpostgres.V17, nil
	}
	for _, v := range []embeddedpostgres.PostgresVersion{embeddedpostgres.V18, embeddedpostgres.V17, embeddedpostgres.V16, embeddedpostgres.V15, embeddedpostgres.V14} {
		if strings.HasPrefix(string(v), strconv.Itoa(wanted)+".") {
			return downloaded, v, nil
		}
	}
	return "", "", fmt.Errorf("the data in %s was written by Postgres %d, which is not installed: install it, or start over with --reset", j.Dir, wanted)
}

// dataVersion is the major version that wrote the data, or 0 if there is no data.
func dataVersion(data string) (int, error) {
	content, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		entries, err := os.ReadDir(data)
		if err == nil && len(entries) > 0 {
			return 0, fmt.Errorf("%s holds files, and is no Postgres data folder", data)
		}
		return 0, nil
	case err != nil:
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("%s/PG_VERSION is not a version number", data)
	}
	return major, nil
}

// findInstalled returns the server on the PATH, then those in the folders that Debian,
// Red Hat, Homebrew and Postgres.app install to, newest first.
func findInstalled() []installed {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*",
		"/usr/pgsql-*",
		"/opt/homebrew/opt/postgresql*",
		"/usr/local/opt/postgresql*",
		"/home/linuxbrew/.linuxbrew/opt/postgresql*",
		"/Applications/Postgres.app/Contents/Versions/*",
	} {
		matches, _ := filepath.Glob(pattern) // it fails only for a malformed pattern
		dirs = append(dirs, matches...)
	}
	found := usable(dirs)
	slices.SortStableFunc(found, func(a, b installed) int { return b.major - a.major })
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			found = append(usable([]string{filepath.Dir(filepath.Dir(real))}), found...)
		}
	}
	return found
}

// usable returns the folders that hold a complete server, from the oldest version that
// schema postern works on.
func usable(dirs []string) (found []installed) {
	for _, dir := range dirs {
		if major := majorVersion(dir); major >= oldest {
			found = append(found, installed{dir, major})
		}
	}
	return found
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorVersion is 0 if the folder does not hold a complete server.
func majorVersion(dir string) int {
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, "bin", program)); err != nil {
			return 0
		}
	}
	line, err := exec.Command(filepath.Join(dir, "bin", "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	match := versionLine.FindSubmatch(line)
	if match == nil {
		return 0
	}
	major, _ := strconv.Atoi(string(match[1])) // the pattern matches only digits
	return major
}
