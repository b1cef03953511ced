from django.urls import path

from llm.api import views

urlpatterns = [
    path("providers", views.ProvidersView.as_view()),
    path("providers/kinds", views.ProviderKindsView.as_view()),
    path("providers/<str:ref>", views.ProviderView.as_view()),
    path("providers/<str:ref>/test", views.ProviderTestView.as_view()),
    path("providers/<str:ref>/health", views.ProviderHealthView.as_view()),
    path("providers/<str:ref>/health/reset", views.ProviderResetView.as_view()),
]
