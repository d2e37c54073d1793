package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// distEnv names the folder of a release of all platforms, which make platforms sets.
const distEnv = "POSTERN_TEST_DIST"

// TestPlatforms looks into each file of a release. That they run is tested on this
// machine's platform alone, in tests/command.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	dist := os.Getenv(distEnv)
	if dist == "" {
		t.Skip("no release of all platforms: make platforms makes one")
	}
	version := strings.TrimPrefix(os.Getenv("VERSION"), "v")
	want := []string{"SHA256SUMS", "postern-" + version + ".tgz"}
	for _, p := range platforms {
		name := fmt.Sprintf("postern_%s_%s_%s", version, p.os, p.arch)
		system, cpu := npmOS[p.os], npmCPU[p.arch]
		npm := fmt.Sprintf("postern-%s-%s-%s.tgz", system, cpu, version)
		archive := name + ".tar.gz"
		if p.os == "windows" {
			archive = name + ".zip"
		}
		want = append(want, archive, name+".cdx.json", npm)
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			files := unpack(t, filepath.Join(dist, archive))
			same(t, []string{"LICENSE", "README.md", "THIRD_PARTY_LICENSES", p.binary()}, slices.Sorted(maps.Keys(files)))
			binary := files[p.binary()]
			same(t, p, platformOf(t, binary))
			if !bytes.Contains(binary, []byte("v"+version)) {
				t.Errorf("the binary does not have the version v%s", version)
			}

			var sbom bom
			read(t, filepath.Join(dist, name+".cdx.json"), &sbom)
			same(t, "v"+version, sbom.Metadata.Component.Version)
			if len(sbom.Components) < 20 {
				t.Errorf("the SBOM has only %d modules", len(sbom.Components))
			}

			files = unpack(t, filepath.Join(dist, npm))
			if !bytes.Equal(binary, files["package/bin/"+p.binary()]) {
				t.Error("the npm package has another binary than the archive")
			}
			var pkg npmPackage
			if err := json.Unmarshal(files["package/package.json"], &pkg); err != nil {
				t.Fatal(err)
			}
			same(t, fmt.Sprint("@postern/", system, "-", cpu, " ", version, " [", system, "] [", cpu, "]"), fmt.Sprint(pkg.Name, " ", pkg.Version, " ", pkg.OS, " ", pkg.CPU))
		})
	}

	entries, err := os.ReadDir(dist)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	var sums strings.Builder
	for _, entry := range entries {
		found = append(found, entry.Name())
		content, err := os.ReadFile(filepath.Join(dist, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if entry.Name() != "SHA256SUMS" {
			fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), entry.Name())
		}
	}
	slices.Sort(want)
	same(t, want, found)
	listed, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, sums.String(), string(listed))
}

// platformOf reads the header of a static binary.
func platformOf(t *testing.T, binary []byte) platform {
	t.Helper()
	r := bytes.NewReader(binary)
	if f, err := elf.NewFile(r); err == nil {
		if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Error("the binary is not static")
		}
		return platform{"linux", map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]}
	}
	if f, err := macho.NewFile(r); err == nil {
		return platform{"darwin", map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64"}[f.Cpu]}
	}
	f, err := pe.NewFile(r)
	if err != nil {
		t.Fatal("the binary is neither ELF, Mach-O nor PE")
	}
	return platform{"windows", map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_ARM64: "arm64"}[f.Machine]}
}

// unpack reads the files of an archive.
func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	add := func(name string, r io.Reader) {
		if files[name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if strings.HasSuffix(path, ".zip") {
		archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			add(f.Name, r)
		}
		return files
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(unzipped)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		add(header.Name, archive)
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func same[T any](t *testing.T, want, got T) {
	t.Helper()
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Errorf("it is\n%v\nand not\n%v", got, want)
	}
}
