-- A point of sale: tills sell offline, and the stock must come out right when they
-- are back.
create table products (
  id         uuid primary key,
  name       text not null,
  price      numeric(10,2) not null,
  stock      integer not null default 0
);
create table sales (
  id         uuid primary key,
  cashier    uuid not null,
  total      numeric(10,2) not null,
  sold_at    timestamptz not null
);
create table sale_lines (
  id         uuid primary key,
  sale_id    uuid not null references sales,
  product_id uuid not null references products,
  qty        integer not null,
  price      numeric(10,2) not null
);
grant select, insert, update, delete on products, sales, sale_lines to authenticated;
alter table products enable row level security;
alter table sales enable row level security;
alter table sale_lines enable row level security;
create policy everybody on products to authenticated using (true) with check (true);
create policy own on sales to authenticated using (cashier = auth.uid()) with check (cashier = auth.uid());
create policy own on sale_lines to authenticated
  using (exists (select from sales s where s.id = sale_id and s.cashier = auth.uid()));
