# The service as one static binary with the policies beside it.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X postern/service/cli.Version=${VERSION}" -o /postern .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /postern /postern
COPY policies/ /policies/
ENV POSTERN_POLICIES=/policies
USER 65532:65532
EXPOSE 6060
ENTRYPOINT ["/postern"]
CMD ["serve"]
