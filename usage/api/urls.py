from django.urls import path

from usage.api import budgets, prices, usage

urlpatterns = [
    path("usage", usage.UsageView.as_view()),
    path("usage/records", usage.UsageRecordsView.as_view()),
    path("usage/invoice", usage.UsageInvoiceView.as_view()),
    path("budgets", budgets.BudgetsView.as_view()),
    path("budgets/<str:ref>", budgets.BudgetView.as_view()),
    path("budgets/<str:ref>/periods", budgets.BudgetPeriodsView.as_view()),
    path("budgets/<str:ref>/forecast", budgets.BudgetForecastView.as_view()),
    path("prices", prices.PricesView.as_view()),
    path("prices/quote", prices.PriceQuoteView.as_view()),
    path("prices/<str:ref>", prices.PriceView.as_view()),
]
