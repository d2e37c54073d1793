// Command release makes the files of a release: for each platform a static binary in an
// archive, with the list of its modules and their licences (SBOM), and in an npm package; the npm package
// postern, which runs the binary; and the checksums of them all.
//
// The same source and the same version of Go give the same bytes, on any machine and in
// any folder. Run it in the folder tools: go run ./release -version v1.2.3
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const root = ".." // of the repository, seen from tools

// platform is one that a binary is made for, in Go's words.
type platform struct{ os, arch string }

var platforms = []platform{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

func (p platform) String() string { return p.os + "/" + p.arch }

// binary is the name of the program's file.
func (p platform) binary() string {
	if p.os == "windows" {
		return "postern.exe"
	}
	return "postern"
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("release: ")
	version := flag.String("version", "", "the release, such as v1.2.3")
	out := flag.String("out", "../dist", "the folder to make")
	only := flag.String("only", "", "one platform, such as linux/amd64 (default: all)")
	binary := flag.String("binary", "", "build nothing but this machine's binary, into this file, with its modules' licences beside it")
	flag.Parse()
	var err error
	if *binary != "" {
		_, _, err = buildWithLicences(platform{}, *version, *binary)
	} else {
		err = release(*version, *out, *only)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// A release's version is one that npm takes too.
var versions = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

func release(version, out, only string) error {
	if !versions.MatchString(version) {
		return fmt.Errorf("-version %q is not a version: it is like v1.2.3 or v1.2.3-rc.1", version)
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return fmt.Errorf("%w: delete it, so that nothing of an earlier release is in this one", err)
	}
	work, err := os.MkdirTemp("", "postern-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	npm := npmRelease{version: strings.TrimPrefix(version, "v"), dir: filepath.Join(work, "npm")}
	for _, p := range chosen {
		log.Print("building for ", p)
		binary := filepath.Join(work, p.os, p.arch, p.binary())
		licences, texts, err := buildWithLicences(p, version, binary)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("postern_%s_%s_%s", npm.version, p.os, p.arch)
		if err := writeArchive(filepath.Join(out, name), p, binary, texts); err != nil {
			return err
		}
		if err := writeSBOM(filepath.Join(out, name+".cdx.json"), version, licences); err != nil {
			return err
		}
		if err := npm.addBinary(p, binary, texts); err != nil {
			return err
		}
	}
	if err := npm.pack(out); err != nil {
		return err
	}
	return writeChecksums(out)
}

// choose returns one platform, or all.
func choose(only string) ([]platform, error) {
	if only == "" {
		return platforms, nil
	}
	for _, p := range platforms {
		if p.String() == only {
			return []platform{p}, nil
		}
	}
	return nil, fmt.Errorf("-only %s is none of the platforms %v", only, platforms)
}

// buildWithLicences builds a binary, and writes the licences of its modules into a file
// beside it, texts.
func buildWithLicences(p platform, version, binary string) (licences []moduleLicence, texts string, err error) {
	if err := build(p, version, binary); err != nil {
		return nil, "", err
	}
	if licences, err = readLicences(binary); err != nil {
		return nil, "", err
	}
	texts = filepath.Join(filepath.Dir(binary), "THIRD_PARTY_LICENSES")
	return licences, texts, os.WriteFile(texts, licenceTexts(licences), 0o644)
}

// build makes a static binary without anything of this machine in it. The zero platform
// is this machine's.
func build(p platform, version, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	flags := "-s -w -buildid= -X postern/service/cli.Version=" + version
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", file, ".")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(os.Environ(), "GOOS="+p.os, "GOARCH="+p.arch, "CGO_ENABLED=0",
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFLAGS=", "GOWORK=off") // what a machine may have set
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building for %s: %w", p, err)
	}
	return nil
}

// writeChecksums writes SHA256SUMS, which sha256sum -c reads.
func writeChecksums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
