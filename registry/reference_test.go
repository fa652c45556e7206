package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	hexA  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hex5  = hexA + hexA
	some  = "sha256:" + hexA
	other = "sha512:" + hex5
)

func TestParseReference(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Reference{
		"registry.example/app":                     {Host: "registry.example", Path: "app"},
		"registry.example/team/app:1.4":            {Host: "registry.example", Path: "team/app", Tag: "1.4"},
		"registry.example/app@" + some:             {Host: "registry.example", Path: "app", Digest: some},
		"registry.example/app:v1@" + other:         {Host: "registry.example", Path: "app", Tag: "v1", Digest: other},
		"localhost/app":                            {Host: "localhost", Path: "app"},
		"localhost:5000/a/b_c/d__e/f-g/h--i/j.k:x": {Host: "localhost:5000", Path: "a/b_c/d__e/f-g/h--i/j.k", Tag: "x"},
		"host:443/app":                             {Host: "host:443", Path: "app"}, // without the port it would be no host
		"host:5000/app":                            {Host: "host:5000", Path: "app"},
		// N2
		"Registry.Example/app":            {Host: "registry.example", Path: "app"},
		"registry.example:443/app":        {Host: "registry.example", Path: "app"},
		"registry.example./app":           {Host: "registry.example", Path: "app"},
		"registry.example.:443/app":       {Host: "registry.example", Path: "app"},
		"registry.example:80/app":         {Host: "registry.example:80", Path: "app"},
		"localhost:80/app":                {Host: "localhost", Path: "app"},
		"localhost:443/app":               {Host: "localhost:443", Path: "app"},
		"127.0.0.1:80/app":                {Host: "127.0.0.1", Path: "app"},
		"DOCKER.IO:443/vendor/app":        {Host: "docker.io", Path: "vendor/app"},
		"index.docker.io/library/alpine":  {Host: "docker.io", Path: "library/alpine"},
		"registry-1.docker.io/vendor/app": {Host: "docker.io", Path: "vendor/app"},
		"[::1]:5000/app":                  {Host: "[::1]:5000", Path: "app"},
		"[2001:DB8:0:0::1]/app":           {Host: "[2001:db8::1]", Path: "app"},
		"[2001:db8::1]:443/app":           {Host: "[2001:db8::1]", Path: "app"},
		"xn--mnchen-3ya.example/app":      {Host: "xn--mnchen-3ya.example", Path: "app"},
		// layouts
		"oci:build":                              {Kind: Layout, Path: "build"},
		"oci:.":                                  {Kind: Layout, Path: "."},
		"oci:/tmp/a b":                           {Kind: Layout, Path: "/tmp/a b"},
		"oci:build:1.0":                          {Kind: Layout, Path: "build", Tag: "1.0"},
		"oci:dir:harbor.example/db:16.4":         {Kind: Layout, Path: "dir", Tag: "harbor.example/db:16.4"},
		"oci:dir:harbor.example/db:16.4@" + some: {Kind: Layout, Path: "dir", Tag: "harbor.example/db:16.4", Digest: some},
		"oci:dir@" + some:                        {Kind: Layout, Path: "dir", Digest: some},
		"oci:a@b:1":                              {Kind: Layout, Path: "a@b", Tag: "1"},
		`oci:C:\images\app`:                      {Kind: Layout, Path: `C:\images\app`},
		`oci:C:\images\app:1.0`:                  {Kind: Layout, Path: `C:\images\app`, Tag: "1.0"},
		"oci:d:/images/app:1.0@" + some:          {Kind: Layout, Path: "d:/images/app", Tag: "1.0", Digest: some},
		"oci:c:1.0":                              {Kind: Layout, Path: "c", Tag: "1.0"},
		"oci-archive:image.tar":                  {Kind: Archive, Path: "image.tar"},
		"oci-archive:image.tar:1.0":              {Kind: Archive, Path: "image.tar", Tag: "1.0"},
		"oci-archive:a:b.tar:reg.example/x:1":    {Kind: Archive, Path: "a:b.tar", Tag: "reg.example/x:1"},
		"oci-archive:image.tar@" + other:         {Kind: Archive, Path: "image.tar", Digest: other},
	} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			got, err := ParseReference(in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			again, err := ParseReference(got.String())
			if err != nil || again != got {
				t.Errorf("%s: String() reads back as %+v, %v", got, again, err)
			}
		})
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                    "empty",
		"alpine":                              "never assumes docker.io",
		"alpine:3.20":                         "never assumes docker.io",
		"library/alpine":                      "never assumes docker.io",
		"team./app:1":                         "never assumes docker.io",
		"team/app:1":                          "never assumes docker.io",
		"docker.io/alpine":                    "write docker.io/library/alpine",
		"index.docker.io/alpine:3":            "write docker.io/library/alpine",
		"registry.example":                    "add the repository",
		"localhost:5000":                      "add the repository",
		"registry.example/":                   "add the repository",
		"registry.example/:1":                 "add the repository",
		"registry.example/App":                `write "app"`,
		"registry.example/a//b":               "empty part",
		"registry.example/a/":                 "empty part",
		"registry.example/a/../b":             `".."`,
		"registry.example/a.":                 `"a."`,
		"registry.example/a___b":              `"a___b"`,
		"registry.example/a%2e":               `"a%2e"`,
		"registry.example/app:":               "not a tag",
		"registry.example/app:a/b":            "",
		"registry.example/app: x":             "not a tag",
		"registry.example/app:.x":             "not a tag",
		"registry.example/app@":               "not a digest",
		"registry.example/app@sha256:ab":      "64 hexadecimal digits",
		"registry.example/app@SHA256:" + hexA: "algorithm",
		"registry.example/app@sha256:" + strings.ToUpper(hexA): "lower-case",
		"registry.example/app@sha1:" + hexA[:40]:               "algorithm",
		"registry.example/app@sha256/../" + hexA + ":" + hexA:  "algorithm",
		"docker.io@evil.example/app":                           "not a digest",
		"user:secret@registry.example/app":                     "",
		"https://registry.example/app":                         `leave out "https://"`,
		"registry.example:0/app":                               "not a port",
		"registry.example:65536/app":                           "not a port",
		"registry.example:0443/app":                            "not a port",
		"registry.example:/app":                                "no port",
		"-registry.example/app":                                "not a host name",
		"registry_one.example/app":                             "not a host name",
		"registry..example/app":                                "not a host name",
		"münchen.example/app":                                  "punycode",
		"registry.exаmple/app":                                 "punycode", // a Cyrillic a
		"registry.example/a\u202epp":                           "",
		"registry.example/a\npp":                               "control character",
		"registry.example/a\x00pp":                             "control character",
		"127.1/app":                                            "IPv4",
		"0177.0.0.1/app":                                       "IPv4",
		"::1/app":                                              "brackets",
		"[::1%eth0]/app":                                       "IPv6",
		"[::1/app":                                             "bracket",
		"[::1]x/app":                                           "follows",
		"[127.0.0.1]/app":                                      "IPv6",
		"registry.example/" + strings.Repeat("a", 256):         "longer",
		"registry.example/app:" + strings.Repeat("a", 129):     "not a tag",
		"oci:":                    "folder",
		"oci::1":                  "folder",
		"oci:dir:":                "no name",
		"oci:dir:a b":             "name holds",
		"oci:dir@sha256:ab":       "64 hexadecimal digits",
		"oci:dir@sha512:" + hexA:  "128 hexadecimal digits",
		"oci://dir":               "without slashes",
		"oci-archive:":            ".tar",
		"oci-archive:image.oci:1": ".tar",
		"oci-archive:image.tar:":  "no name",
	} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			got, err := ParseReference(in)
			if err == nil {
				t.Fatalf("accepted as %+v", got)
			}
			if !errors.Is(err, ErrReference) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v; want it to say %q", err, want)
			}
			if reasonOf(err) != "reference-invalid" {
				t.Errorf("reason %q", reasonOf(err))
			}
		})
	}
}

// reasonOf returns the outermost reason code in err.
func reasonOf(err error) string {
	var r interface{ Reason() string }
	if errors.As(err, &r) {
		return r.Reason()
	}
	return ""
}

func TestA17QualifiedNames(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"DOCKER.io:443/vendor/app:1", "docker.io/vendor/app:1"},
		{"registry-1.docker.io/vendor/app", "docker.io/vendor/app"},
		{"registry.example./app:1", "registry.example/app:1"},
	} {
		r, err := ParseQualified(pair[0])
		if err != nil || r.String() != pair[1] {
			t.Errorf("%s: %s, %v; want %s", pair[0], r, err, pair[1])
		}
	}
	for _, bad := range []string{"registry.example/app@" + some, "oci:dir:1", "registry.example/app:../x", "registry.example/app:a b", "registry.example/app:" + strings.Repeat("x", 129), "app:1"} {
		if r, err := ParseQualified(bad); !errors.Is(err, ErrReference) {
			t.Errorf("%s: %v, %v", bad, r, err)
		}
	}
}

func TestFullName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"oci:dir:harbor.example/db:16.4":       "harbor.example/db:16.4",
		"oci:dir:DOCKER.IO/library/alpine:3":   "docker.io/library/alpine:3",
		"oci:dir:16.4":                         "",
		"oci:dir:harbor.example/db":            "",
		"oci:dir:library/alpine:3":             "",
		"harbor.example/db:16.4":               "",
		"oci-archive:x.tar:harbor.example/d:1": "harbor.example/d:1",
	} {
		r, err := ParseReference(in)
		if err != nil {
			t.Fatal(err)
		}
		full, ok := r.FullName()
		if ok != (want != "") || ok && full.String() != want {
			t.Errorf("%s: %s, %v; want %q", in, full, ok, want)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{
		"registry.example/app:1@" + some, "oci:dir:harbor.example/db:16.4@" + other, "oci-archive:a.tar:1", "[::1]:443/x", "oci:a@sha256:b:c", "oci-archive:a.tar@sha256:" + hexA + "@sha256:" + hexA,
		"LOCALHOST:80/a", "127.0.0.1:443/a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			if !errors.Is(err, ErrReference) {
				t.Fatalf("%q: %v is no ErrReference", s, err)
			}
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is %+v; %q is %+v, %v", s, r, r.String(), again, err)
		}
	})
}
