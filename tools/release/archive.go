package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// archiver is a tar or a zip that is being written.
type archiver interface {
	add(name string, mode os.FileMode, content []byte) error
	io.Closer
}

// writeArchive packs the binary with the texts that belong to it, the licences of its
// modules among them: a zip for Windows, else a tar.gz.
func writeArchive(name string, p platform, binary, licences string) error {
	date, err := sourceDate()
	if err != nil {
		return err
	}
	extension, open := ".tar.gz", newTarGz
	if p.os == "windows" {
		extension, open = ".zip", newZip
	}
	file, err := os.Create(name + extension)
	if err != nil {
		return err
	}
	defer file.Close()
	archive := open(file, date)
	for _, member := range []struct {
		path string
		mode os.FileMode
	}{
		{binary, 0o755},
		{filepath.Join(root, "LICENSE"), 0o644},
		{licences, 0o644},
		{filepath.Join(root, "README.md"), 0o644},
	} {
		content, err := os.ReadFile(member.path)
		if err != nil {
			return err
		}
		if err := archive.add(filepath.Base(member.path), member.mode, content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return file.Close()
}

// sourceDate is the date of all files in an archive: that of SOURCE_DATE_EPOCH
// (reproducible-builds.org), else the one that npm pack gives its files.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Date(1985, time.October, 26, 8, 15, 0, 0, time.UTC), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%q is not a number of seconds", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

type tarGz struct {
	tar  *tar.Writer
	gzip *gzip.Writer
	date time.Time
}

func newTarGz(w io.Writer, date time.Time) archiver {
	compressed := gzip.NewWriter(w)
	return &tarGz{tar.NewWriter(compressed), compressed, date}
}

func (t *tarGz) add(name string, mode os.FileMode, content []byte) error {
	if err := t.tar.WriteHeader(&tar.Header{Name: name, Mode: int64(mode), Size: int64(len(content)), ModTime: t.date, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err := t.tar.Write(content)
	return err
}

func (t *tarGz) Close() error {
	if err := t.tar.Close(); err != nil {
		return err
	}
	return t.gzip.Close()
}

type zipped struct {
	*zip.Writer
	date time.Time
}

func newZip(w io.Writer, date time.Time) archiver { return &zipped{zip.NewWriter(w), date} }

func (z *zipped) add(name string, mode os.FileMode, content []byte) error {
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: z.date}
	header.SetMode(mode)
	w, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}
