package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errNoPort = errors.New("there is no port after the colon")

// registryHost returns host[:port] as [Reference.Host] is written.
func registryHost(s string) (string, error) {
	for _, c := range s {
		if c >= utf8.RuneSelf {
			return "", errors.New("the host is not ASCII; write it in punycode (xn--…)")
		}
	}
	host, port, err := splitHost(s)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(host, "[") {
		if host, err = hostName(host); err != nil {
			return "", err
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0 || port[0] == '0') {
		return "", fmt.Errorf("%q is not a port", port)
	}
	// The default port says nothing, unless it is what tells the name from a path on docker.io. Which one that is
	// depends on the scheme: loopback hosts speak plain HTTP.
	usual := map[bool]string{false: "443", true: "80"}[isLoopback(host)]
	if port == usual && namesRegistry(host) {
		port = ""
	}
	if port == "" && !namesRegistry(host) {
		return "", errNoHost
	}
	if port != "" {
		return host + ":" + port, nil
	}
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io", nil
	}
	return host, nil
}

// splitHost cuts the port off; port is empty if there is no colon.
func splitHost(s string) (host, port string, err error) {
	if strings.HasPrefix(s, "[") {
		return splitIPv6(s)
	}
	host, port, colon := strings.Cut(s, ":")
	switch {
	case strings.Contains(port, ":"):
		return "", "", errors.New("write an IPv6 address in brackets")
	case colon && port == "":
		return "", "", errNoPort
	}
	return host, port, nil
}

// splitIPv6 is splitHost for an address in brackets, which is checked and keeps them.
func splitIPv6(s string) (host, port string, err error) {
	address, rest, closed := strings.Cut(s[1:], "]")
	if !closed {
		return "", "", fmt.Errorf("%q lacks the closing bracket", s)
	}
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Is6() || ip.Zone() != "" {
		return "", "", fmt.Errorf("%q is not an IPv6 address", address)
	}
	port, colon := strings.CutPrefix(rest, ":")
	switch {
	case rest != "" && !colon:
		return "", "", fmt.Errorf("%q follows the address", rest)
	case colon && port == "":
		return "", "", errNoPort
	}
	return "[" + ip.String() + "]", port, nil
}

// hostName canonicalises a DNS name or an IPv4 address.
func hostName(host string) (string, error) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || len(host) > 253 {
		return "", errors.New("that is not a host name")
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return "", fmt.Errorf("%q is not a host name", host)
		}
		for i := range len(l) {
			if !lowerAlnum(l[i]) && l[i] != '-' {
				return "", fmt.Errorf("%q is not a host name", host)
			}
		}
	}
	// A name whose last label is a number is an address to every resolver, in forms that differ among them (127.1, 0177.0.0.1).
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return "", fmt.Errorf("%q is neither a host name nor an IPv4 address", host)
		}
		return ip.String(), nil
	}
	return host, nil
}
